"""Stores of answers and judgements by key, in JSON-lines files that survive a killed run."""

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

_BATCH = 32  # judgements: the most that a killed run loses
_GIVE_UP_AFTER = 20  # failures in one batch; fewer are taken as answers that the judge's provider blocks


class JsonLinesStore:
    """Values by key, each appended to a file as one line; a line cut off by a killed run is ignored.

    Lines are appended whole, so two runs may share a file; neither sees what the other adds meanwhile.

    Args:
        path: The file; created with its folder by the first `put`.

    Raises:
        InputError: The file cannot be read, or is not such a store.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "answers.jsonl"
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
        """Return the value of a key; None if there is none."""
        return self._values.get(key)

    def put(self, key: str, value: JsonValue) -> None:
        """Store a value."""
        self._values[key] = value
        line = json.dumps({"key": key, "value": value}, ensure_ascii=False, separators=(",", ":")) + "\n"
        if self._is_torn:  # ends the line that was cut off
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
            return  # cut off
        if not isinstance(found, dict) or set(found) != {"key", "value"} or not isinstance(found["key"], str):
            raise InputError(f"{self._path} is not a store of answers: give another folder")
        self._values[found["key"]] = found["value"]


def content_key(**what: Any) -> str:
    """Return a key of everything that a value depends on: the SHA-256 of its JSON.

    Example:
        >>> content_key(question="Is there a dog?", seed=1) == content_key(seed=1, question="Is there a dog?")
        True
    """
    return hashlib.sha256(json.dumps(what, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


class CacheableJudge(Judge, Protocol):
    """A judge whose judgements can be stored."""

    @property
    def identity(self) -> str:
        """Identifies the judge: its kind, model and prompts."""
        ...

    def reads(self, item: Item, answer: str) -> Sequence[str]:
        """Return everything that the judgement depends on."""
        ...


class CachedJudge:
    """Asks a judge once about each input, across runs.

    Judgements of failed calls, with neither verdict nor reply, are not stored. If a provider's filter blocks a few
    answers, they stay unjudged as long as others were judged.

    Args:
        judge: The judge.
        path: File that stores the judgements.

    Raises:
        InputError: The file cannot be read, or is not such a store.
    """

    def __init__(self, judge: CacheableJudge, path: Path) -> None:
        self._judge = judge
        self._store = JsonLinesStore(path)

    @property
    def identity(self) -> str:
        """That of the judge."""
        return self._judge.identity

    def __call__(self, items: Sequence[Item], answers: Sequence[str]) -> list[Judgement]:
        """Return one judgement per answer."""
        pairs = list(zip(items, answers, strict=True))
        keys = [content_key(judge=self.identity, reads=list(self._judge.reads(*pair))) for pair in pairs]
        missing = [(key, pair) for key, pair in dict(zip(keys, pairs, strict=True)).items() if not self._store.get(key)]
        judged: dict[str, Judgement] = {}
        for start in range(0, len(missing), _BATCH):
            batch = missing[start : start + _BATCH]
            is_known = bool(judged) or len(missing) < len(set(keys))
            found = self._ask([pair for _, pair in batch], tolerant=is_known and len(batch) < _GIVE_UP_AFTER)
            for (key, _), judgement in zip(batch, found, strict=True):
                judged[key] = judgement
                if judgement.verdict is not None or judgement.reply:
                    self._store.put(key, judgement.model_dump(mode="json"))
        return [judged.get(key) or Judgement.model_validate(self._store.get(key)) for key in keys]

    def _ask(self, pairs: Sequence[tuple[Item, str]], *, tolerant: bool) -> Sequence[Judgement]:
        try:
            return self._judge([item for item, _ in pairs], [answer for _, answer in pairs])
        except SmoothGuardError:
            raise
        except Exception:
            if not tolerant:
                raise
            return [Judgement(verdict=None)] * len(pairs)
