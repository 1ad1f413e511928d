"""What a model, and a guard before it, answer about the medium of an attack."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from langchain_core.messages import HumanMessage

from smoothguard_guardrail.media.files import request_from_files

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from smoothguard_guardrail.cli.attack.media import InputMedium
    from smoothguard_guardrail.config import SmoothGuardConfig
    from smoothguard_guardrail.models import ChatTransformersMultimodal
    from smoothguard_guardrail.result import GuardResult

_AT_ONCE = 16  # questions in one forward pass


def answers_to_medium(
    model: ChatTransformersMultimodal, medium: InputMedium, questions: Sequence[str]
) -> tuple[str, ...]:
    """Ask about a decoded medium: the very values from which an attack starts."""
    block: dict[str, Any] = {"type": medium.kind, medium.kind: medium.tensor}
    if medium.sampling_rate is not None:
        block["sampling_rate"] = medium.sampling_rate
    return _ask(model, [HumanMessage([block, {"type": "text", "text": question}]) for question in questions])


def answers_to_file(model: ChatTransformersMultimodal, path: Path, questions: Sequence[str]) -> tuple[str, ...]:
    """Ask about a file as users send it."""
    return _ask(model, [request_from_files([path], question) for question in questions])


def guarded_results(
    model: ChatTransformersMultimodal, config: SmoothGuardConfig, path: Path, questions: Sequence[str]
) -> tuple[GuardResult, ...]:
    """Ask the guard about a file, each question on its own.

    Raises:
        QuorumError: Too few samples answered.
    """
    from smoothguard_guardrail.hosts.runnable import SmoothGuardRunnable

    guard = SmoothGuardRunnable(model, config=config)
    return tuple(guard.guard([request_from_files([path], question)]) for question in questions)


def holds(answer: str, target: str) -> bool:
    """Return whether an answer holds the target's words, in their order, whatever case and punctuation.

    Example:
        >>> holds("Sure: the code is 7391!", "The code is 7391."), holds("The code is 73.", "The code is 7391.")
        (True, False)
    """
    return f" {_words(target)} " in f" {_words(answer)} "


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _ask(model: ChatTransformersMultimodal, requests: Sequence[HumanMessage]) -> tuple[str, ...]:
    batches = [[[request] for request in requests[at : at + _AT_ONCE]] for at in range(0, len(requests), _AT_ONCE)]
    return tuple(str(answer.text) for batch in batches for answer in model.generate_batch(batch))
