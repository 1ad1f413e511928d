"""What an answer says: its canonical form, and the text that is embedded."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from langchain_core.messages import AIMessage

_KEPT = frozenset("%‰&@/\\?")
_INSIDE = frozenset(".,:'_*#")
_ATTACHED = frozenset(".#")
_APOSTROPHES = frozenset("'’‘ʼ`")
_MINUS = str.maketrans("−‐‑–—", "-----")


def answer_key(message: AIMessage) -> str:
    """Return the canonical form of an answer: equal keys say the same.

    Case, white space, invisible characters, markdown and punctuation do not count, except where they change a number
    or a name: `7391` and `7,391`, `-5` and `5`, `1.5` and `15`, `10²` and `102` stay apart. Tool calls count by name
    and arguments, in any order, ids ignored. A text that is one JSON object, as structured output is, counts by what
    it parses to. The first line of a key holds the calls or the object (it is empty without any), so that a text
    never equals a call.

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
    """Return what is embedded and scored: the text, then the tool calls as `name(arguments)`, one a line.

    Example:
        >>> answer_text(AIMessage("", tool_calls=[{"name": "open", "args": {"door": 3}, "id": "1"}]))
        'open({"door": 3})'
    """
    calls = [f"{name}({arguments})" for name, arguments in _calls(message)]
    text = "\n".join(part for part in (_text(message).strip(), *calls) if part)
    return text.encode("utf-8", "replace").decode()  # half a surrogate is no text to an embedder, nor to a file


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
    """Return the JSON object that a text is, fenced or not; None when it is anything else."""
    fenced = _FENCED.fullmatch(text)
    try:
        parsed = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)


def fold(text: str) -> str:
    """Return the text in one case, without the marks that do not change what it says."""
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
    """Return what is left of one character: itself, a space, or nothing. In doubt it stays."""
    character = text[place]
    before, after = text[place - 1 : place], text[place + 1 : place + 2]
    between_digits = before.isdigit() and after.isdigit()
    if character in _APOSTROPHES and not between_digits:
        return ""
    if unicodedata.category(character)[0] not in "PZC" or character in _KEPT or between_digits:
        return character
    if character == "-" or (character == "*" and before != "*" and after.isspace()):
        kept = _BEFORE_NUMBER.match(text, place + 1) or (before.isdigit() and after.isalnum())
    elif before.isalnum() and after.isalnum() and character in _INSIDE:
        kept = True
    else:
        kept = character in _ATTACHED and (after.isdigit() or (character == "#" and before.isalnum()))
    return character if kept else " "
