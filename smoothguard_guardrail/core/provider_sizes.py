"""At what size providers show images to their models, as they document it.

A rule may be too small for a model, which costs detail; it must not be too large, since shrinking averages the noise
away. Where sources differ, the smallest size counts. Read in November 2026; providers change these rules.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

Size = tuple[int, int]
"""Height and width in pixels."""


def fit_within(height: int, width: int, *, box: int) -> Size:
    """Shrink to fit into a square."""
    return _scaled(height, width, min(1.0, box / max(height, width)))


def shortest_side(height: int, width: int, *, side: int) -> Size:
    """Resize so that the shorter side has a length."""
    return _scaled(height, width, side / min(height, width))


def tiles(height: int, width: int) -> Size:
    """Shrink to fit into 2048 x 2048, then so that the shorter side has at most 768 pixels."""
    height, width = fit_within(height, width, box=2048)
    return _scaled(height, width, min(1.0, 768 / min(height, width)))


def patches(height: int, width: int, *, most: int, box: int) -> Size:
    """Shrink to fit into a square, then to a number of patches of 32 pixels, whole ones along one side."""
    height, width = fit_within(height, width, box=box)
    if math.ceil(height / 32) * math.ceil(width / 32) <= most:
        return height, width
    scale = math.sqrt(32 * 32 * most / (height * width))
    rows, columns = height * scale / 32, width * scale / 32
    scale *= min(math.floor(rows) / rows, math.floor(columns) / columns)
    return max(1, int(height * scale)), max(1, int(width * scale))


def squash(height: int, width: int, *, side: int) -> Size:
    """Resize to a square, whatever the shape."""
    return side, side


def smart_resize(height: int, width: int, *, factor: int, most: int) -> Size:
    """Resize to whole multiples of a factor on both sides, with at most a number of pixels."""
    scale = min(1.0, math.sqrt(most / (height * width)))
    rounding = math.floor if scale < 1 else round
    return tuple(max(factor, rounding(length * scale / factor) * factor) for length in (height, width))  # type: ignore[return-value]


def area(height: int, width: int, *, pixels: int) -> Size:
    """Resize, up or down, to a number of pixels."""
    return _scaled(height, width, math.sqrt(pixels / (height * width)))


def claude(height: int, width: int, *, side: int, most: int) -> Size:
    """Shrink to a longest side and to a number of patches of 28 pixels."""

    def fits(height: int, width: int) -> bool:
        rows, columns = math.ceil(height / 28), math.ceil(width / 28)
        return max(rows, columns) * 28 <= side and rows * columns <= most

    long, short = max(height, width), min(height, width)
    low, high = 1, long
    while not fits(height, width) and low + 1 < high:
        middle = (low + high) // 2
        if fits(middle, max(1, round(middle * short / long))):
            low = middle
        else:
            high = middle
    if fits(height, width):
        return height, width
    other = max(1, round(low * short / long))
    return (low, other) if height >= width else (other, low)


def _scaled(height: int, width: int, scale: float) -> Size:
    return max(1, round(height * scale)), max(1, round(width * scale))


class _Rule(NamedTuple):
    provider: str
    """Pattern of the chat model's `_llm_type`."""
    model: str
    """Pattern of the model's name, as lower case."""
    size: Callable[[int, int], Size]
    source: str


_OPENAI = "https://developers.openai.com/api/docs/guides/images-vision"
_CLAUDE = "https://platform.claude.com/docs/en/build-with-claude/vision"
_MISTRAL = "https://docs.mistral.ai/capabilities/vision"
_COHERE = "https://docs.cohere.com/docs/image-inputs"
_DEEPSEEK = "https://api-docs.deepseek.com/guides/vision"
_GEMINI = "https://ai.google.dev/gemini-api/docs/tokens"
_OLLAMA = "https://github.com/ollama/ollama, model/models"
_TRANSFORMERS = "https://github.com/huggingface/transformers, image_processing_*.py"

_ANTHROPIC = r"anthropic|bedrock|vertex"
_LOCAL = r"chat-ollama|compatible|huggingface|vllm|nvidia|bedrock"
RULES = (
    _Rule("openai|azure", r"gpt-4o|gpt-4\.1(?!-mini|-nano)|gpt-5(\.1)?(?![.\w]|-mini|-nano)|\bo[13]\b", tiles, _OPENAI),
    _Rule("openai|azure", r"gpt-5\.[4-9]|gpt-[6-9]", partial(patches, most=2500, box=2048), _OPENAI),
    _Rule("openai|azure", r"gpt-|\bo4", partial(patches, most=1536, box=2048), _OPENAI),
    _Rule(
        _ANTHROPIC,
        r"claude-(opus|sonnet)-(4-[7-9]|[5-9])",
        partial(claude, side=2576, most=4784),
        _CLAUDE,
    ),
    _Rule(_ANTHROPIC, r"claude", partial(claude, side=1568, most=1568), _CLAUDE),
    _Rule("google|vertexai", r"gemini-(1\.5|2)", partial(fit_within, box=3072), _GEMINI),
    _Rule("mistral", r"pixtral", partial(fit_within, box=1024), _MISTRAL),
    _Rule("mistral", r"mistral-(small|medium)", partial(fit_within, box=1540), _MISTRAL),
    _Rule("cohere", r"vision", partial(fit_within, box=1536), _COHERE),
    _Rule("deepseek", r"", partial(area, pixels=640_000), _DEEPSEEK),
    _Rule(_LOCAL, r"qwen-?(2|2\.5)-?vl", partial(smart_resize, factor=28, most=1_003_520), _TRANSFORMERS),
    _Rule(_LOCAL, r"qwen-?3-?vl", partial(smart_resize, factor=32, most=2_097_152), _OLLAMA),
    _Rule(_LOCAL, r"gemma-?3", partial(squash, side=896), _TRANSFORMERS),
    _Rule(_LOCAL, r"llama-?(3\.2|4).*(vision|11b|90b|scout|maverick)", partial(fit_within, box=1120), _TRANSFORMERS),
    _Rule(_LOCAL, r"llava-?(v?1\.6|next)", partial(fit_within, box=672), _TRANSFORMERS),
    _Rule(_LOCAL, r"llava|bakllava", partial(shortest_side, side=336), _TRANSFORMERS),
    _Rule(_LOCAL, r"pixtral", partial(fit_within, box=1024), _TRANSFORMERS),
    _Rule(_LOCAL, r"mistral-?(3|small)", partial(fit_within, box=1540), _OLLAMA),
    _Rule(_LOCAL, r"smolvlm|idefics3", partial(fit_within, box=1456), _TRANSFORMERS),
)
"""The first rule that matches counts; a model that none matches is unknown."""


def documented_size(model: Any) -> Callable[[int, int], Size] | None:
    """Return the rule by which a chat model's provider resizes images; None where it is not documented.

    Args:
        model: A chat model; its `_llm_type`, base URL and model name are read.
    """
    provider = getattr(model, "_llm_type", None)
    names = (getattr(model, name, None) for name in ("model_name", "model", "base_model_id", "model_id"))
    name = next((name for name in names if isinstance(name, str) and name), "").lower()
    if not isinstance(provider, str) or not name:
        return None
    base_url = getattr(model, "openai_api_base", None) or ""
    if provider == "openai-chat" and base_url and "api.openai.com" not in str(base_url):
        provider = "compatible"  # vLLM, LM Studio, OpenRouter, ...
    rules = (rule.size for rule in RULES if re.search(rule.provider, provider) and re.search(rule.model, name))
    return next(rules, None)
