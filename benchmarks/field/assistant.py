"""A chat model that says in a sentence what EfficientNet-Lite0 names on an image, for the guard to wrap.

It names one object and does nothing else: it neither reads the question nor talks. The sentence is one of a few
templates, chosen by the pixels, so that copies of one image are worded differently and the vote must see that they say
the same.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import torch
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import Field

from benchmarks.field.namer import INPUT_SIDE, Namer
from smoothguard_guardrail.errors import InputError
from smoothguard_guardrail.media import resize
from smoothguard_guardrail.media.scan import scan
from smoothguard_guardrail.models.media_input import MessageMedia

QUESTION = "What is in this image?"
WORDINGS = (
    "The image shows {noun}.",
    "This is {noun}.",
    "I can see {noun} in the picture.",
    "It is a photo of {noun}.",
    "There is {noun} here.",
    "The main object is {noun}.",
    "You are looking at {noun}.",
    "{noun}.",
)
"""Chosen before it was known how the guard's vote takes them."""
BATCH_SIZE = 4
"""Images in one forward pass: the fastest on one core."""


class NamerChat(BaseChatModel):
    """Names the object on the last image of a conversation, in a sentence.

    Takes images in every dialect that the guard knows, and tensors, float (3, height, width) in [0, 1].
    """

    namer: Any = Field(exclude=True, repr=False)
    """The `Namer`."""
    names: tuple[str, ...] = Field(exclude=True, repr=False)
    """The spoken name of every class; see `spoken`."""

    @property
    def accepts_tensors(self) -> bool:
        """Whether media may arrive as tensors: yes."""
        return True

    def image_input_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the size at which the namer sees an image of any size."""
        return INPUT_SIDE, INPUT_SIDE

    @property
    def _llm_type(self) -> str:
        return "benchmarks.field.namer"

    def generate_batch(self, batch: Sequence[Sequence[BaseMessage]]) -> list[AIMessage]:
        """Answer many conversations.

        Raises:
            InputError: A conversation contains no image.
            MediaError: An image cannot be decoded.
        """
        images = torch.stack([_last_image(messages) for messages in batch])
        return [AIMessage(text) for text in self.say(batch, images)]

    def classify(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of images, float32 (batch, num_classes)."""
        namer: Namer = self.namer
        with torch.inference_mode():
            return torch.cat([namer.logits(part) for part in torch.split(images, BATCH_SIZE)])

    def say(self, conversations: Sequence[Sequence[BaseMessage]], images: torch.Tensor) -> list[str]:
        """Return one answer per conversation.

        Args:
            conversations: The messages.
            images: The last image of each, float32 (batch, 3, 224, 224) in [0, 1].
        """
        named = self.classify(images).argmax(-1).tolist()
        return [sentence(self.names[index], wording_of(image)) for index, image in zip(named, images, strict=True)]

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self.generate_batch([messages])[0])])


def spoken(name: str) -> str:
    """Return a class name as a person would say it: without what is in brackets or after a comma or slash.

    Example:
        >>> spoken("kite (bird of prey)"), spoken("swim trunks / shorts")
        ('kite', 'swim trunks')
    """
    return re.split(r" *[(/,]", name)[0].strip()


def sentence(name: str, wording: int) -> str:
    """Return a sentence that names an object.

    Example:
        >>> sentence("otter", 1)
        'This is an otter.'
    """
    article = "an" if name[0].lower() in "aeiou" else "a"
    text = WORDINGS[wording].format(noun=f"{article} {name}")
    return text[0].upper() + text[1:]


def wording_of(image: torch.Tensor) -> int:
    """Return the wording for an image: it depends on all its pixels, rounded to 8 bits, and on nothing else."""
    pixels = (image * 255).round().to(torch.uint8).contiguous().numpy().tobytes()
    return hashlib.sha256(pixels).digest()[0] % len(WORDINGS)


def name_in(text: str, names: Sequence[str]) -> str | None:
    """Return which of the names stands first in a text, as whole words; None if it contains none.

    Of names that begin at the same word the longest counts.

    Example:
        >>> name_in("This is a tiger shark, no goldfish.", ["shark", "tiger", "tiger shark", "goldfish"])
        'tiger shark'
    """
    spaced = f" {' '.join(re.findall(r'[^ ,.;:!?]+', text.casefold()))} "
    places = {name: spaced.find(f" {name.casefold().replace('.', '')} ") for name in names}
    found = [name for name, place in places.items() if place >= 0]
    return min(found, key=lambda name: (places[name], -len(name)), default=None)


def _last_image(messages: Sequence[BaseMessage]) -> torch.Tensor:
    """Return the last image of a conversation at the namer's size, float32 (3, 224, 224) in [0, 1]."""
    for found in reversed(list(scan(messages))):
        if found.kind == "image":
            return resize(MessageMedia(messages).decode(found)[-1].tensor, (INPUT_SIDE, INPUT_SIDE))
    raise InputError("expected a message with an image, got none")
