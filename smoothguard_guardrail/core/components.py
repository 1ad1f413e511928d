"""The replaceable parts of a guard, in one value."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smoothguard_guardrail.errors import ConfigurationError

# Not for type checkers only: pydantic resolves the annotations of a field's class.
from smoothguard_guardrail.protocols import Clusterer, Embedder, Perturber, Scorer, StanceClassifier, Voter
from smoothguard_guardrail.voting import (
    AgglomerativeClusterer,
    KMeansClusterer,
    MeaningClusterer,
    PrototypeScorer,
    SentimentVoter,
    StanceVoter,
    classify_stances,
    default_embedder,
)

if TYPE_CHECKING:
    from smoothguard_guardrail.config import SmoothGuardConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardComponents:
    """Parts of your own; each that is None is the one that the configuration describes.

    Functions qualify: see `smoothguard_guardrail.protocols` for what each is called with.

    Args:
        embedder: Embeds the answers: any LangChain `Embeddings`. Default: the packaged all-MiniLM-L6-v2.
        stance_classifier: Tells refusals, unsure answers and other answers apart. Default: the packaged linear model
            for twelve languages.
        clusterer: Groups answers that say the same, instead of `config.vote.clusterer`.
        scorer: Scores how benign answers are, in [-1, 1]. Default: none; with `vote.rule="sentiment"`, similarity to
            example answers.
        voter: Elects a group, instead of `config.vote.rule`.
        image_perturber: Perturbs images, instead of shift, resize, noise and low-pass filter.
        audio_perturber: Perturbs audio, instead of noise.

    Raises:
        ConfigurationError: If a part cannot be called, or the embedder has no `embed_documents`.

    Example:
        >>> from smoothguard_guardrail import GuardComponents
        >>> GuardComponents(scorer=lambda texts: [0.0] * len(texts)).embedder is None
        True
    """

    embedder: Embedder | None = None
    stance_classifier: StanceClassifier | None = None
    clusterer: Clusterer | None = None
    scorer: Scorer | None = None
    voter: Voter | None = None
    image_perturber: Perturber | None = None
    audio_perturber: Perturber | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            part = getattr(self, field.name)
            method = "embed_documents" if field.name == "embedder" else "__call__"
            if part is not None and (isinstance(part, type) or not callable(getattr(part, method, None))):
                expected = "an object with embed_documents" if field.name == "embedder" else "a callable"
                found = f"the class {part.__name__}" if isinstance(part, type) else type(part).__name__
                raise ConfigurationError(f"components.{field.name}: expected {expected}, got {found}")

    def override(self, **changes: object) -> GuardComponents:
        """Return a copy with these parts changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def complete(self, config: SmoothGuardConfig) -> CompleteComponents:
        """Return a copy in which every part of the vote is there; the default embedder is loaded on first use."""
        embedder = _DefaultEmbedder() if self.embedder is None else self.embedder
        scorer = PrototypeScorer(embedder) if self.scorer is None and _weighs_benign(config) else self.scorer
        return CompleteComponents(
            embedder=embedder,
            stance_classifier=classify_stances if self.stance_classifier is None else self.stance_classifier,
            clusterer=_default_clusterer(config) if self.clusterer is None else self.clusterer,
            scorer=scorer,
            voter=_default_voter(config) if self.voter is None else self.voter,
            image_perturber=self.image_perturber,
            audio_perturber=self.audio_perturber,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CompleteComponents(GuardComponents):
    """Components with every part of the vote. Perturbers may be None: the default ones depend on the medium.

    The scorer is None where the vote uses no scores.
    """

    embedder: Embedder
    stance_classifier: StanceClassifier
    clusterer: Clusterer
    voter: Voter


def require_components(components: GuardComponents | None) -> GuardComponents:
    """Return the components that a host was given, or none.

    Raises:
        ConfigurationError: If they are anything but `GuardComponents` or None.
    """
    if components is None:
        return GuardComponents()
    if not isinstance(components, GuardComponents):
        raise ConfigurationError(f"components: expected GuardComponents, got {type(components).__name__}")
    return components


class _DefaultEmbedder:
    """Loads the default embedder when the first text is embedded."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return default_embedder().embed_documents(texts)


def _default_clusterer(config: SmoothGuardConfig) -> Clusterer:
    if config.vote.clusterer == "kmeans":
        return KMeansClusterer()
    if config.vote.clusterer == "agglomerative":
        return AgglomerativeClusterer(distance_threshold=config.vote.distance_threshold)
    return MeaningClusterer()


def _default_voter(config: SmoothGuardConfig) -> Voter:
    if config.vote.rule == "sentiment":
        return SentimentVoter(config.vote.benign_weight)
    return StanceVoter(config.vote.refusal_share)


def _weighs_benign(config: SmoothGuardConfig) -> bool:
    return config.vote.rule == "sentiment" and config.vote.benign_weight > 0
