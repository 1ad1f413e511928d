"""An answer reduced to all that it says and does, which is what is voted on."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from langchain_core.messages import AIMessage

from smoothguard_guardrail.voting.actions import answer_actions, blocks, json_form
from smoothguard_guardrail.voting.folding import fold

_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*)\n\s*```\s*", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """All that one answer says and does.

    Reasoning is not part of it: an answer's reasoning is returned with the answer if that wins, and has no vote.

    Example:
        >>> Answer.of(AIMessage("", tool_calls=[{"name": "open", "args": {"door": 3}, "id": "1"}])).actions
        ('open({"door": 3})',)
    """

    words: str
    """Text, transcripts of audio, and refusals that the provider reports in a field of their own."""
    actions: tuple[str, ...]
    """Tool calls and media, from `answer_actions`."""
    refused: bool
    """Whether the provider marked the answer as a refusal and the model said nothing else."""

    @classmethod
    def of(cls, message: AIMessage) -> Answer:
        """Reduce a message."""
        spoken = [part for part in (str(message.text).strip(), *_transcripts(message)) if part]
        refusals = _refusals(message)
        words = "\n".join(dict.fromkeys([*spoken, *refusals]))
        return cls(
            words=words.encode("utf-8", "replace").decode(),  # embedders and files reject a lone surrogate
            actions=answer_actions(message),
            refused=bool(refusals) and not spoken,
        )

    @cached_property
    def key(self) -> str:
        """Canonical form: answers with equal keys say and do the same.

        Case, white space, invisible characters, markdown and punctuation do not count, except where they change a
        number or a name: `7391` and `7,391`, `-5` and `5`, `1.5` and `15`, `10²` and `102` stay apart. A text that is
        one JSON value, such as structured output, counts by its parsed value. The first line of a key holds the actions
        or the JSON value, and is empty without them, so a text never equals an action.
        """
        if self.actions:
            return f"{json_form(self.actions)}\n{fold(self.words)}"
        parsed = _parsed(self.words)
        return f"\n{fold(self.words)}" if parsed is None else f"{parsed}\n"

    @property
    def structure(self) -> str:
        """The actions or the JSON value, as the first line of the key; empty for plain text."""
        return self.key.partition("\n")[0]

    @cached_property
    def text(self) -> str:
        """What is embedded, scored and recorded: the words, then each action on its own line."""
        text = "\n".join(part for part in (self.words, *self.actions) if part)
        return text.encode("utf-8", "replace").decode()


def answer_key(message: AIMessage) -> str:
    """Return the canonical form of an answer: answers with equal keys say and do the same. See `Answer.key`.

    Example:
        >>> answer_key(AIMessage("**Yes**, there is!")) == answer_key(AIMessage("yes there is"))
        True
        >>> answer_key(AIMessage('{"color": "red", "count": 2}')) == answer_key(AIMessage('{"count":2,"color":"red"}'))
        True
    """
    return Answer.of(message).key


def answer_text(message: AIMessage) -> str:
    """Return all that an answer says and does as text: the words, then each action on its own line.

    Example:
        >>> answer_text(AIMessage("", tool_calls=[{"name": "open", "args": {"door": 3}, "id": "1"}]))
        'open({"door": 3})'
    """
    return Answer.of(message).text


def _transcripts(message: AIMessage) -> list[str]:
    """Return what the audio of an answer says, where the model's text does not have it already."""
    audio = [
        message.additional_kwargs.get("audio"),
        *(block for block in blocks(message) if block.get("type") == "audio"),
    ]
    found = [str(part.get("transcript") or "").strip() for part in audio if isinstance(part, Mapping)]
    return [transcript for transcript in found if transcript]


def _refusals(message: AIMessage) -> list[str]:
    found = [block.get("refusal") for block in blocks(message) if block.get("type") == "refusal"]
    found.append(message.additional_kwargs.get("refusal"))
    return [refusal.strip() for refusal in found if isinstance(refusal, str) and refusal.strip()]


def _parsed(text: str) -> str | None:
    """Return the JSON object or list in a text in one form, with or without a code fence; None for anything else."""
    fenced = _FENCED.fullmatch(text)
    try:
        parsed = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return None
    return json_form(parsed) if isinstance(parsed, (dict, list)) else None
