"""From LangChain messages to the inputs of a Hugging Face chat template and processor."""

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
from smoothguard_guardrail.media import dialects
from smoothguard_guardrail.media.found_medium import describe
from smoothguard_guardrail.models.media_input import MessageMedia, mono_waveform

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from smoothguard_guardrail.media.found_medium import Address, Found

_TEXT_TYPES = {None, "text", "input_text", "output_text"}
_INNER_KEYS = dialects.CONTENT_KEYS | {"source", "guardContent", "guard_content", "functionResponse"}
"""Keys of a block under which other blocks stand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A conversation, split into turns for a chat template and its media in order.

    Attributes:
        turns: Messages in the form of chat templates; media are empty blocks.
        images: Each float32 (3, height, width) in [0, 1].
        audio: Each float32 (num_samples,) at the model's sampling rate.
    """

    turns: list[dict[str, Any]] = field(default_factory=list)
    images: list[torch.Tensor] = field(default_factory=list)
    audio: list[NDArray[np.float32]] = field(default_factory=list)


class MessageReader:
    """Turns messages into conversations for one processor.

    Args:
        processor: A Hugging Face processor with a chat template.
        sampling_rate: Of the model's audio input, in Hz; None if it takes no audio.
        takes_images: Whether the model takes images.
    """

    def __init__(self, processor: Any, *, sampling_rate: int | None, takes_images: bool) -> None:
        self._sampling_rate = sampling_rate
        self._takes_images = takes_images
        self._control = _control_pattern(processor)

    def __call__(self, messages: Sequence[BaseMessage]) -> Conversation:
        """Read one conversation.

        Raises:
            InputError: A message is of a kind that chat templates do not know.
            MediaFetchError: A block refers to a URL or a path.
            UnsupportedMediaError: A block is not understood, or is a medium that the model does not take.
            MediaError: A medium cannot be decoded.
        """
        conversation = Conversation()
        media = MessageMedia(messages)
        for index, message in enumerate(messages):
            turn: dict[str, Any] = {"role": _role(message)}
            blocks = list(self._blocks(message.content, (index, "content"), media, conversation))
            turn["content"] = blocks or [self._text("")]
            if isinstance(message, AIMessage) and message.tool_calls:
                turn["tool_calls"] = [
                    {"type": "function", "function": {"name": call["name"], "arguments": call["args"]}}
                    for call in message.tool_calls
                ]
            conversation.turns.append(turn)
        return conversation

    def _blocks(
        self, node: Any, at: Address, media: MessageMedia, conversation: Conversation
    ) -> Iterator[dict[str, Any]]:
        """Yield template blocks for content, for one of its blocks, or for what is inside a block."""
        found = media.at(at)
        if found is not None:
            yield from self._medium(found, media, conversation)
        elif isinstance(node, str):
            yield self._text(node)
        elif isinstance(node, (list, tuple)):
            for index, item in enumerate(node):
                yield from self._blocks(item, (*at, index), media, conversation)
        elif isinstance(node, dict):
            blocks = list(self._inner_blocks(node, at, media, conversation))
            if not blocks:
                reason = f"expected text, image or audio blocks, got a block of type {node.get('type')!r}"
                raise UnsupportedMediaError(reason, path=describe(at))
            yield from blocks

    def _inner_blocks(
        self, block: dict[str, Any], at: Address, media: MessageMedia, conversation: Conversation
    ) -> Iterator[dict[str, Any]]:
        """Yield the text of a block, the media attached to it, and the blocks inside it."""
        for key, value in block.items():
            here = (*at, key)
            if key == "text" and isinstance(value, str) and block.get("type") in _TEXT_TYPES:
                yield self._text(value)
            elif key in dialects.STRONG_KEYS or key in dialects.WEAK_KEYS:
                if (found := media.at(here)) is not None:
                    yield from self._medium(found, media, conversation)
            elif key in _INNER_KEYS and not (key == "source" and isinstance(value, str)):  # that is a URL
                yield from self._blocks(value, here, media, conversation)

    def _medium(self, found: Found, media: MessageMedia, conversation: Conversation) -> Iterator[dict[str, Any]]:
        for medium in media.decode(found):
            if medium.caption:
                yield self._text(medium.caption)
            if medium.kind == "image":
                if not self._takes_images:
                    raise UnsupportedMediaError("this model takes no images: remove the block", path=found.path)
                conversation.images.append(medium.tensor)
            else:
                if self._sampling_rate is None:
                    raise UnsupportedMediaError("this model takes no audio: remove the block", path=found.path)
                conversation.audio.append(mono_waveform(medium, self._sampling_rate))
            yield {"type": medium.kind}

    def _text(self, text: str) -> dict[str, str]:
        """Return a text block in which the model's control tokens are plain text (`< image>` for `<image>`)."""
        return {
            "type": "text",
            "text": self._control.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text),
        }


def render(processor: Any, turns: list[dict[str, Any]], *, add_generation_prompt: bool) -> str:
    """Apply the chat template to the turns of one conversation.

    Raises:
        ConfigurationError: The processor has no chat template, or it rejects the conversation.
    """
    from jinja2 import TemplateError

    try:
        return str(processor.apply_chat_template(turns, add_generation_prompt=add_generation_prompt, tokenize=False))
    except (TemplateError, ValueError) as error:
        raise ConfigurationError(f"the model's chat template rejects these messages: {error}") from error


def answer_ids(processor: Any, turns: list[dict[str, Any]], answer: str) -> list[int]:
    """Tokenise an answer as the model would generate it: after the prompt, up to the end-of-turn token.

    Args:
        processor: The processor.
        turns: The conversation before the answer.
        answer: The answer's text.

    Returns:
        Token ids, with the end-of-turn token where the chat template writes one.

    Raises:
        ConfigurationError: The processor has no chat template, or it rejects the conversation.
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
    raise InputError(f"expected system, human, AI, tool or chat messages, got a {type(message).__name__}")


def _control_pattern(processor: Any) -> re.Pattern[str]:
    """Return a pattern for the strings that steer the model: special tokens and media placeholders."""
    tokens = {str(token) for token in processor.tokenizer.added_tokens_decoder.values() if token.special}
    tokens |= {str(getattr(processor, f"{kind}_token", None) or "") for kind in ("image", "video", "audio")}
    longest_first = sorted((token for token in tokens if len(token) > 1), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
