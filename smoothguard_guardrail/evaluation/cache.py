"""What was asked once is never asked again: values by key in a JSON-lines file that outlives a killed run."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from pydantic import JsonValue

from smoothguard_guardrail.errors import InputError, SmoothGuardError
from smoothguard_guardrail.evaluation.items import Item
from smoothguard_guardrail.evaluation.scores import Judge, Judgement

_AT_ONCE = 32  # judgements: a killed run loses no more than these
_GIVE_UP_AFTER = 20  # failures at once, when others were judged: fewer are answers that the judge's provider blocks


class JsonLinesStore:
    """Values by key, each written at once as a line of a file; a line that a killed run tore is ignored.

    Lines are appended whole, so two runs may share a file. What one of them adds meanwhile the other does not see.

    Args:
        path: The file; it and its folder are made with the first value.

    Raises:
        InputError: The file cannot be read, or is no file of this kind.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "kept.jsonl"
        >>> JsonLinesStore(path).put("a", {"text": "Yes."})
        >>> JsonLinesStore(path).get("a")
        {'text': 'Yes.'}
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values: dict[str, JsonValue] = {}
        self._is_torn = False
        try:
            data = path.read_bytes() if path.exists() else b""
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
        self._is_torn = bool(data) and not data.endswith(b"\n")
        for line in data.split(b"\n"):
            self._read(line)

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: str) -> JsonValue:
        """Return what was kept under a key; None if nothing was."""
        return self._values.get(key)

    def put(self, key: str, value: JsonValue) -> None:
        """Keep a value under a key."""
        self._values[key] = value
        line = json.dumps({"key": key, "value": value}, ensure_ascii=False, separators=(",", ":")) + "\n"
        if self._is_torn:  # the half line before it becomes a line of its own
            line = "\n" + line
            self._is_torn = False
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            data = line.encode()
            while data:
                data = data[os.write(descriptor, data) :]
        finally:
            os.close(descriptor)

    def _read(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            return  # torn
        if not isinstance(found, dict) or set(found) != {"key", "value"} or not isinstance(found["key"], str):
            raise InputError(f"{self._path} is no file of kept answers: give another folder")
        self._values[found["key"]] = found["value"]


def content_key(**what: Any) -> str:
    """Return a key for everything that a value depends on: the SHA-256 of its JSON.

    Example:
        >>> content_key(question="Is there a dog?", seed=1) == content_key(seed=1, question="Is there a dog?")
        True
    """
    return hashlib.sha256(json.dumps(what, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


class CacheableJudge(Judge, Protocol):
    """A judge whose judgements can be kept."""

    @property
    def identity(self) -> str:
        """What tells it from others: kind, model, prompts."""
        ...

    def reads(self, item: Item, answer: str) -> Sequence[str]:
        """Return all that it reads, which its judgement depends on."""
        ...


class CachedJudge:
    """A judge that is asked once about whatever it reads, also by later runs.

    Judgements of failed calls, which have neither verdict nor reply, are not kept. A few answers about which every
    call fails, as those that a provider's filter blocks, are not judged, when others were.

    Args:
        judge: The judge.
        path: File that keeps the judgements.

    Raises:
        InputError: The file cannot be read, or is no file of this kind.
    """

    def __init__(self, judge: CacheableJudge, path: Path) -> None:
        self._judge = judge
        self._kept = JsonLinesStore(path)

    @property
    def identity(self) -> str:
        """The judge's own."""
        return self._judge.identity

    def __call__(self, items: Sequence[Item], answers: Sequence[str]) -> list[Judgement]:
        """Return one judgement per answer."""
        pairs = list(zip(items, answers, strict=True))
        keys = [content_key(judge=self.identity, reads=list(self._judge.reads(*pair))) for pair in pairs]
        missing = [(key, pair) for key, pair in dict(zip(keys, pairs, strict=True)).items() if not self._kept.get(key)]
        judged: dict[str, Judgement] = {}
        for start in range(0, len(missing), _AT_ONCE):
            batch = missing[start : start + _AT_ONCE]
            is_known = bool(judged) or len(missing) < len(set(keys))
            found = self._ask([pair for _, pair in batch], tolerant=is_known and len(batch) < _GIVE_UP_AFTER)
            for (key, _), judgement in zip(batch, found, strict=True):
                judged[key] = judgement
                if judgement.verdict is not None or judgement.reply:
                    self._kept.put(key, judgement.model_dump(mode="json"))
        return [judged.get(key) or Judgement.model_validate(self._kept.get(key)) for key in keys]

    def _ask(self, pairs: Sequence[tuple[Item, str]], *, tolerant: bool) -> Sequence[Judgement]:
        try:
            return self._judge([item for item, _ in pairs], [answer for _, answer in pairs])
        except SmoothGuardError:
            raise
        except Exception:
            if not tolerant:
                raise
            return [Judgement(verdict=None)] * len(pairs)
