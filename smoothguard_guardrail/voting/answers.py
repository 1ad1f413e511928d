"""The canonical form of an answer, and the text that is embedded."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from langchain_core.messages import AIMessage

_ALWAYS_KEPT = frozenset("%‰&@/\\?")
_KEPT_INSIDE_WORDS = frozenset(".,:'_*#")
_KEPT_BEFORE_DIGITS = frozenset(".#")
_APOSTROPHES = frozenset("'’‘ʼ`")
_MINUS = str.maketrans("−‐‑–—", "-----")


def answer_key(message: AIMessage) -> str:
    """Return the canonical form of an answer: answers with equal keys say the same.

    Case, white space, invisible characters, markdown and punctuation do not count, except where they change a number
    or a name: `7391` and `7,391`, `-5` and `5`, `1.5` and `15`, `10²` and `102` stay apart. Tool calls count by name
    and arguments, in any order; their ids do not count. A text that is one JSON object, such as structured output,
    counts by its parsed value. The first line of a key holds the calls or the object, and is empty without them, so a
    text never equals a call.

    Example:
        >>> answer_key(AIMessage("**Yes**, there is!")) == answer_key(AIMessage("yes there is"))
        True
        >>> answer_key(AIMessage('{"color": "red", "count": 2}')) == answer_key(AIMessage('{"count":2,"color":"red"}'))
        True
    """
    calls, text = _calls(message), _text(message)
    if calls:
        return f"{_json(calls)}\n{fold(text)}"
    parsed = _parsed_object(text)
    return f"\n{fold(text)}" if parsed is None else f"{_json(parsed)}\n"


def answer_text(message: AIMessage) -> str:
    """Return what is embedded and scored: the text, then each tool call as `name(arguments)` on its own line.

    Example:
        >>> answer_text(AIMessage("", tool_calls=[{"name": "open", "args": {"door": 3}, "id": "1"}]))
        'open({"door": 3})'
    """
    calls = [f"{name}({arguments})" for name, arguments in _calls(message)]
    text = "\n".join(part for part in (_text(message).strip(), *calls) if part)
    return text.encode("utf-8", "replace").decode()  # embedders and files reject a lone surrogate


def _text(message: AIMessage) -> str:
    text = str(message.text)
    if text.strip():
        return text
    refusals = [block.get("refusal") for block in _blocks(message) if block.get("type") == "refusal"]
    refusals.append(message.additional_kwargs.get("refusal"))
    return "\n".join(refusal for refusal in refusals if isinstance(refusal, str))


def _blocks(message: AIMessage) -> list[Mapping[str, Any]]:
    content = message.content
    return [] if isinstance(content, str) else [block for block in content if isinstance(block, Mapping)]


def _calls(message: AIMessage) -> list[tuple[str, str]]:
    valid = [(call["name"], _json(call["args"])) for call in message.tool_calls]
    invalid = [(f"{call['name']}", str(call["args"])) for call in message.invalid_tool_calls]
    return sorted(valid + invalid)


_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*)\n\s*```\s*", re.DOTALL | re.IGNORECASE)


def _parsed_object(text: str) -> dict[str, Any] | None:
    """Return the JSON object in a text, with or without a code fence; None if the text is anything else."""
    fenced = _FENCED.fullmatch(text)
    try:
        parsed = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)


def fold(text: str) -> str:
    """Return the text casefolded, without the characters that do not change its meaning."""
    marked = "".join(_mark(character) for character in text)
    plain = unicodedata.normalize("NFKC", marked).casefold()
    plain = unicodedata.normalize("NFKC", plain).translate(_MINUS)
    plain = "".join(character for character in plain if unicodedata.category(character) != "Cf")
    return " ".join("".join(_fold_character(plain, place) for place in range(len(plain))).split())


def _mark(character: str) -> str:
    """Keep superscripts, subscripts and fractions apart from the plain digits that NFKC makes of them."""
    kind = unicodedata.decomposition(character).partition(">")[0]
    return {"<super": "^", "<sub": "₊", "<fraction": " "}.get(kind, "") + character


_BEFORE_NUMBER = re.compile(r"\s*\.?\d")


def _fold_character(text: str, place: int) -> str:
    """Return one character as it is, a space, or nothing. When in doubt, keep the character."""
    character = text[place]
    before, after = text[place - 1 : place], text[place + 1 : place + 2]
    between_digits = before.isdigit() and after.isdigit()
    if character in _APOSTROPHES and not between_digits:
        return ""
    if unicodedata.category(character)[0] not in "PZC" or character in _ALWAYS_KEPT or between_digits:
        return character
    if character == "-" or (character == "*" and before != "*" and after.isspace()):
        kept = _BEFORE_NUMBER.match(text, place + 1) or (before.isdigit() and after.isalnum())
    elif before.isalnum() and after.isalnum() and character in _KEPT_INSIDE_WORDS:
        kept = True
    else:
        kept = character in _KEPT_BEFORE_DIGITS and (after.isdigit() or (character == "#" and before.isalnum()))
    return character if kept else " "
