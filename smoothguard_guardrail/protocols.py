"""The parts that users may replace. Anything with the right call signature qualifies, including plain functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeAlias, TypeVar, runtime_checkable

from smoothguard_guardrail.errors import AdapterError, SmoothGuardError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from smoothguard_guardrail.result import Stance
    from smoothguard_guardrail.voting.voter import Vote

P = ParamSpec("P")
T = TypeVar("T")
Embed: TypeAlias = "Callable[[Sequence[str]], NDArray[np.float64]]"
"""Embeds texts: returns float64 (num_texts, dimensions)."""


@runtime_checkable
class Perturber(Protocol):
    """Perturbs a batch of copies of one medium.

    Called with images, float32 (num_samples, 3, height, width) in [0, 1], or waveforms, float32
    (num_samples, channels, samples) in [-1, 1]. Returns a batch of the same shape, dtype and range. All randomness must
    come from the generator, which is on the batch's device. Combine perturbers with `perturbations.Compose`.
    """

    def __call__(self, batch: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
        """Return a perturbed batch of the same shape."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into vectors, like any LangChain `Embeddings`."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return one vector per text, all of the same length."""
        ...


@runtime_checkable
class StanceClassifier(Protocol):
    """Tells what answers do with the question: refuse it, say that they can't make out the medium, or answer it.

    An answer that refuses and then tells all the same `answers`, and so does one that is not sure but names something.
    Answers that call tools or hold media never get here: they answer. All refusals form one group of the vote.
    """

    def __call__(self, texts: Sequence[str]) -> Sequence[Stance]:
        """Return `refuses`, `unsure` or `answers` for each text."""
        ...


@runtime_checkable
class Clusterer(Protocol):
    """Groups answers that say the same.

    Called with texts of which at least two differ, and with what embeds texts: `embed(texts)` returns float64
    (num_texts, dimensions), whose rows may be all zeros. It is called only if the clusterer does, so one that needs no
    embeddings costs none. Returns integer labels of shape (num_texts,). The values do not matter, only which of them
    are equal.
    """

    def __call__(self, texts: Sequence[str], embed: Embed) -> NDArray[np.intp] | Sequence[int]:
        """Return one label per text."""
        ...


@runtime_checkable
class Equivalence(Protocol):
    """Says how likely it is that two texts mean the same, for `voting.EquivalenceClusterer`.

    Called once per vote with all pairs of different answers that are in question, each pair in one order only.
    """

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> Sequence[float]:
        """Return one probability in [0, 1] per pair; True and False qualify."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """Scores how benign each answer is, in [-1, 1], for `vote.rule="sentiment"`."""

    def __call__(self, texts: Sequence[str]) -> Sequence[float]:
        """Return one score per text: 1 for a refusal or a harmless answer."""
        ...


@runtime_checkable
class Voter(Protocol):
    """Elects a group of answers. The same arguments must always give the same vote."""

    def __call__(self, labels: Sequence[int], stances: Sequence[Stance], benign: Sequence[float]) -> Vote:
        """Return the vote over answers with these group labels and stances, and benign scores in [-1, 1].

        `benign` is empty unless the guard has a scorer.
        """
        ...


def name_errors(name: str, part: Callable[P, T]) -> Callable[P, T]:
    """Wrap a user's part: any exception it raises becomes an `AdapterError` that names it."""

    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return part(*args, **kwargs)
        except SmoothGuardError:
            raise
        except Exception as error:
            raise AdapterError(f"the {name} failed: {type(error).__name__}: {error}") from error

    return call
