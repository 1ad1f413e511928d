"""The fixed classes of answers that certificates are about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from langchain_core.messages import AIMessage

from smoothguard_guardrail.errors import AdapterError
from smoothguard_guardrail.protocols import name_errors
from smoothguard_guardrail.voting import Answer, classify_answers, yes_or_no

if TYPE_CHECKING:
    from smoothguard_guardrail.protocols import StanceClassifier

AnswerClass = Literal["stance", "yes_no", "action", "key"] | Callable[[AIMessage], str]
"""What tells the classes of answers apart: whether they refuse, their leading yes or no, what they do beside talking
(tool calls, media, JSON values), their canonical form, or a function of the answer."""


def class_names(by: AnswerClass, messages: Sequence[AIMessage], classifier: StanceClassifier) -> list[str]:
    """Return the class of each answer.

    Args:
        by: What tells the classes apart.
        messages: The answers.
        classifier: Tells stances apart.

    Raises:
        AdapterError: If a function fails or does not return a text.
    """
    if callable(by):
        names = [name_errors("answer_class", by)(message) for message in messages]
        if wrong := [name for name in names if not isinstance(name, str)]:
            raise AdapterError(f"the answer_class function must return a text, got {type(wrong[0]).__name__}")
        return names
    answers = [Answer.of(message) for message in messages]
    if by == "stance":
        return list(classify_answers(classifier, answers))
    if by == "yes_no":
        return [{1: "yes", -1: "no", 0: "neither"}[yes_or_no(answer.words)] for answer in answers]
    return [answer.structure if by == "action" else answer.key for answer in answers]
