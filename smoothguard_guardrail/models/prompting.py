"""LangChain messages as what a Hugging Face chat template and processor take."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from smoothguard_guardrail.errors import ConfigurationError, InputError, UnsupportedMediaError
from smoothguard_guardrail.models.media_blocks import audio_from_block, image_from_block

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray

_IMAGE_TYPES = frozenset({"image", "image_url"})
_AUDIO_TYPES = frozenset({"audio", "input_audio"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A conversation split into the turns of a chat template and the media they mention, in order.

    Attributes:
        turns: Messages as chat templates take them; media are empty blocks there.
        images: Pictures, each float32 (3, height, width) in [0, 1].
        recordings: Waveforms, each float32 (num_samples,) at the model's sampling rate.
    """

    turns: list[dict[str, Any]] = field(default_factory=list)
    images: list[torch.Tensor] = field(default_factory=list)
    recordings: list[NDArray[np.float32]] = field(default_factory=list)


class MessageReader:
    """Turns messages into conversations for one processor.

    Args:
        processor: A Hugging Face processor with a chat template.
        sampling_rate: What the model's audio side takes, in Hz; None: the model takes no audio.
        takes_images: Whether the model has a vision side.
    """

    def __init__(self, processor: Any, *, sampling_rate: int | None, takes_images: bool) -> None:
        self._sampling_rate = sampling_rate
        self._takes_images = takes_images
        self._control = _control_pattern(processor)

    def __call__(self, messages: Sequence[BaseMessage]) -> Conversation:
        """Read one conversation.

        Raises:
            InputError: A message is of a kind that chat templates do not know.
            MediaError: A medium cannot be decoded.
            UnsupportedMediaError: A block is not understood, is a reference, or is of a kind that the model
                does not take.
        """
        conversation = Conversation()
        for index, message in enumerate(messages):
            conversation.turns.append(self._turn(message, conversation, path=f"messages[{index}].content"))
        return conversation

    def _turn(self, message: BaseMessage, conversation: Conversation, *, path: str) -> dict[str, Any]:
        turn: dict[str, Any] = {"role": _role(message)}
        if isinstance(message.content, str):
            blocks = [self._text(message.content)]
        else:
            blocks = [
                self._block(block, conversation, path=f"{path}[{index}]") for index, block in enumerate(message.content)
            ]
        turn["content"] = blocks or [self._text("")]
        if isinstance(message, AIMessage) and message.tool_calls:
            turn["tool_calls"] = [
                {"type": "function", "function": {"name": call["name"], "arguments": call["args"]}}
                for call in message.tool_calls
            ]
        return turn

    def _block(self, block: str | Mapping[str, Any], conversation: Conversation, *, path: str) -> dict[str, Any]:
        if isinstance(block, str):
            return self._text(block)
        kind = block.get("type")
        if kind == "text" and isinstance(block.get("text"), str):
            return self._text(block["text"])
        if kind in _IMAGE_TYPES:
            if not self._takes_images:
                raise UnsupportedMediaError("this model takes no pictures: remove the block", path=path)
            conversation.images.append(image_from_block(block, path=path))
            return {"type": "image"}
        if kind in _AUDIO_TYPES:
            if self._sampling_rate is None:
                raise UnsupportedMediaError("this model takes no audio: remove the block", path=path)
            rate = self._sampling_rate
            conversation.recordings.append(audio_from_block(block, sampling_rate=rate, path=path))
            return {"type": "audio"}
        raise UnsupportedMediaError(
            f"a block of type {kind!r} is not understood: pass text, image or audio blocks", path=path
        )

    def _text(self, text: str) -> dict[str, str]:
        """Make a text block in which the model's control tokens are plain text (`< image>` for `<image>`)."""
        return {
            "type": "text",
            "text": self._control.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text),
        }


def render(processor: Any, turns: list[dict[str, Any]], *, add_generation_prompt: bool) -> str:
    """Apply the chat template to the turns of one conversation.

    Raises:
        ConfigurationError: The processor has no chat template, or it refuses the conversation.
    """
    from jinja2 import TemplateError

    try:
        return str(processor.apply_chat_template(turns, add_generation_prompt=add_generation_prompt, tokenize=False))
    except (TemplateError, ValueError) as error:
        raise ConfigurationError(f"the model's chat template does not take these messages: {error}") from error


def answer_ids(processor: Any, turns: list[dict[str, Any]], answer: str) -> list[int]:
    """Tokenise an answer as the model would generate it: after the prompt, up to the end-of-turn token.

    Args:
        processor: The processor.
        turns: The conversation before the answer.
        answer: The answer's text.

    Returns:
        Token ids, with the end-of-turn token where the chat template writes one.

    Raises:
        ConfigurationError: The processor has no chat template, or it refuses the conversation.
    """
    tokenizer = processor.tokenizer
    prompt = render(processor, turns, add_generation_prompt=True)
    reply = {"role": "assistant", "content": [{"type": "text", "text": answer}]}
    full = render(processor, [*turns, reply], add_generation_prompt=False)
    suffix = full[len(prompt) :] if full.startswith(prompt) else answer
    ids = _suffix_ids(tokenizer, prompt, suffix)
    ends = [index for index, token in enumerate(ids) if token in tokenizer.all_special_ids]
    if ends:
        return ids[: ends[0] + 1]
    suffix = suffix[: suffix.find(answer) + len(answer)] + (tokenizer.eos_token or "")
    return _suffix_ids(tokenizer, prompt, suffix)


def _suffix_ids(tokenizer: Any, prompt: str, suffix: str) -> list[int]:
    prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    full_ids = tokenizer(prompt + suffix, add_special_tokens=False)["input_ids"]
    if full_ids[: len(prompt_ids)] == prompt_ids:
        return list(full_ids[len(prompt_ids) :])
    return list(tokenizer(suffix, add_special_tokens=False)["input_ids"])  # a token spans the border


def _role(message: BaseMessage) -> str:
    if isinstance(message, ChatMessage):
        return message.role
    for kind, role in (
        (SystemMessage, "system"),
        (HumanMessage, "user"),
        (AIMessage, "assistant"),
        (ToolMessage, "tool"),
    ):
        if isinstance(message, kind):
            return role
    raise InputError(f"a {type(message).__name__} is no system, human, ai, tool or chat message")


def _control_pattern(processor: Any) -> re.Pattern[str]:
    """Match the strings that steer the model, which no message may write: special tokens and placeholders."""
    tokens = {str(token) for token in processor.tokenizer.added_tokens_decoder.values() if token.special}
    tokens |= {str(getattr(processor, f"{kind}_token", None) or "") for kind in ("image", "video", "audio")}
    longest_first = sorted((token for token in tokens if len(token) > 1), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
