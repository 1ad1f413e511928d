"""The output of `generate`: texts cut at stop strings, token counts, and streams of text."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One answer of the model.

    Attributes:
        text: The answer, cut before the first stop string.
        output_tokens: Tokens generated, the end-of-turn token included, padding excluded.
        finish_reason: "stop" at an end-of-turn token or a stop string, else "length".
    """

    text: str
    output_tokens: int
    finish_reason: Literal["stop", "length"]


def complete(
    row: torch.Tensor, tokenizer: Any, *, eos_ids: Sequence[int], pad_id: int | None, stop: Sequence[str]
) -> Completion:
    """Read one row of what `generate` appended to the prompt.

    Args:
        row: Int64 (num_tokens,), padded on the right if other rows are longer.
        tokenizer: The model's tokenizer.
        eos_ids: Tokens that end a turn.
        pad_id: The padding token; it may be one of `eos_ids`.
        stop: Stop strings.
    """
    ids = row.tolist()
    end = next((index for index, token in enumerate(ids) if token in eos_ids), None)
    if end is None:
        while ids and ids[-1] == pad_id:
            ids.pop()
    text = decode(tokenizer, ids if end is None else ids[:end])
    cut = cut_at(text, stop)
    if cut is not None:
        tokens = len(ids) if end is None else end
        return Completion(text=text[:cut], output_tokens=tokens, finish_reason="stop")
    if end is not None:
        return Completion(text=text, output_tokens=end + 1, finish_reason="stop")
    return Completion(text=text, output_tokens=len(ids), finish_reason="length")


def decode(tokenizer: Any, ids: Sequence[int]) -> str:
    """Decode token ids to text without special tokens."""
    return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def cut_at(text: str, stop: Sequence[str]) -> int | None:
    """Return where the first stop string begins, or None."""
    found = [index for index in (text.find(string) for string in stop if string) if index >= 0]
    return min(found, default=None)


def cut_stream(pieces: Iterator[str], stop: Sequence[str]) -> Iterator[str]:
    """Cut a stream of text before the first stop string, which may span pieces.

    Text that may begin a stop string is held back until more of it has come.
    """
    pending = ""
    for piece in pieces:
        pending += piece
        start = len(pending) - max((_overlap(pending, string) for string in stop), default=0)
        cut = cut_at(pending, stop)
        if cut is not None and cut <= start:  # no stop string that is still incomplete begins earlier
            if cut:
                yield pending[:cut]
            for _ in pieces:  # let the producer finish
                pass
            return
        if start:
            yield pending[:start]
        pending = pending[start:]
    if pending := pending[: cut_at(pending, stop)]:
        yield pending


def _overlap(text: str, string: str) -> int:
    """Return the length of the longest end of the text with which the string begins."""
    return next((size for size in range(min(len(text), len(string)), 0, -1) if string.startswith(text[-size:])), 0)


class GenerationStream:
    """Runs `generate` for one prompt in a thread and yields its text as it arrives.

    Args:
        tokenizer: The model's tokenizer.
        generate: Called with `streamer` and `stopping_criteria`; returns the row of new tokens.

    Example:
        Iterate, then read `row`; `close()` makes the thread end early.
    """

    def __init__(self, tokenizer: Any, generate: Callable[..., torch.Tensor]) -> None:
        from transformers import TextIteratorStreamer

        self._streamer = TextIteratorStreamer(
            tokenizer, skip_prompt=True, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        self._generate = generate
        self._closed = threading.Event()
        self._error: BaseException | None = None
        self._row: torch.Tensor | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __iter__(self) -> Iterator[str]:
        """Yield pieces of text.

        Raises:
            BaseException: What `generate` raised in the thread.
        """
        self._thread.start()
        for piece in self._streamer:
            if piece:
                yield str(piece)
        self._thread.join()
        if self._error is not None:
            raise self._error

    @property
    def row(self) -> torch.Tensor:
        """The new tokens, int64 (num_tokens,).

        Raises:
            RuntimeError: The stream was not read to its end.
        """
        if self._row is None:
            raise RuntimeError("read the stream to its end first")
        return self._row

    def close(self) -> None:
        """Stop generating at the next token, and wait for that."""
        self._closed.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        from transformers import StoppingCriteriaList

        try:
            criteria = StoppingCriteriaList([self._stopped])
            self._row = self._generate(streamer=self._streamer, stopping_criteria=criteria)
        except BaseException as error:  # re-raised in the consumer's thread
            self._error = error
            self._streamer.text_queue.put(self._streamer.stop_signal)

    def _stopped(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        import torch

        return torch.full((input_ids.shape[0],), self._closed.is_set(), device=input_ids.device)
