"""A chat model in which SmolLM2, a small language model, says what EfficientNet-Lite0 sees on an image.

The language model has no eyes. Where its prompt would name the object stands a mixture of the names' token embeddings,
weighted by the classifier's probabilities: an unsure classifier gives it a blurred word, and it may speak of something
else. Nothing is trained for this. It knows one object and invents the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from langchain_core.messages import BaseMessage
from pydantic import Field

from benchmarks.field.assistant import NamerChat
from benchmarks.field.talker import Talker

SYSTEM = "You say in one short sentence what is in a picture."
SEEN = "The image shows a{object}. {question}"
"""These two were chosen among six prompts: most of the 20 clean photos got a short answer that names the object."""
MIN_PROBABILITY = 0.01
"""Less likely classes are left out of the mixture."""


@dataclass(frozen=True, eq=False)
class Describer:
    """SmolLM2 with the classifier's probabilities for a word.

    Args:
        talker: The language model.
        names: The spoken name of every class.
    """

    talker: Talker
    names: Sequence[str]

    @cached_property
    def _name_tokens(self) -> list[list[int]]:
        return [self.talker.tokenizer(f" {name}", add_special_tokens=False)["input_ids"] for name in self.names]

    def describe(self, probabilities: torch.Tensor, questions: Sequence[str]) -> list[str]:
        """Return what is said about images.

        Args:
            probabilities: Of the classes, float (num_images, num_classes).
            questions: The users', one per image.
        """
        return self.talker.complete([self._prompt(*each) for each in zip(probabilities, questions, strict=True)])

    def mixture(self, probabilities: torch.Tensor) -> torch.Tensor:
        """Return the object of one image as embeddings, as many as the likeliest name has tokens.

        Args:
            probabilities: Of the classes, float (num_classes,).

        Returns:
            Float (num_tokens, width). Each is the mean of the names' tokens at its place, weighted by probability.
        """
        likely = (probabilities >= min(MIN_PROBABILITY, float(probabilities.max()))).nonzero()[:, 0].tolist()
        mixed = []
        for place in range(len(self._name_tokens[int(probabilities.argmax())])):
            long_enough = [index for index in likely if place < len(self._name_tokens[index])]
            tokens = self.talker.embeddings[[self._name_tokens[index][place] for index in long_enough]]
            weights = probabilities[long_enough, None]
            mixed.append((weights * tokens).sum(0) / weights.sum())
        return torch.stack(mixed)

    def _prompt(self, probabilities: torch.Tensor, question: str) -> torch.Tensor:
        """Return what the language model reads, as embeddings."""
        mark = "\0"
        text = self.talker.prompt(SYSTEM, SEEN.format(object=mark, question=question))
        before, after = map(self.talker.embed, text.split(mark))
        return torch.cat((before, self.mixture(probabilities), after))


class DescriberChat(NamerChat):
    """Says what is on the last image of a conversation, in the words of a language model."""

    describer: Any = Field(exclude=True, repr=False)
    """The `Describer`."""

    @property
    def _llm_type(self) -> str:
        return "benchmarks.field.describer"

    def say(self, conversations: Sequence[Sequence[BaseMessage]], images: torch.Tensor) -> list[str]:
        """Return one answer per conversation, whose last message asks."""
        describer: Describer = self.describer
        questions = [messages[-1].text for messages in conversations]
        return describer.describe(self.classify(images).softmax(-1), questions)
