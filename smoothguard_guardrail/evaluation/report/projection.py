"""Projects answers onto a plane, for cluster maps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from smoothguard_guardrail.errors import ConfigurationError
from smoothguard_guardrail.evaluation.report.content import ClusterMap

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from smoothguard_guardrail.protocols import Embedder


def project_answers(texts: Sequence[str], embedder: Embedder) -> NDArray[np.float64]:
    """Return texts on the first two principal components of their embeddings, as float64 (num_texts, 2).

    Raises:
        AdapterError: The embedder does not return one finite vector per text.

    Example:
        >>> from smoothguard_guardrail.voting import default_embedder
        >>> project_answers(["A red circle.", "A blue square.", "No."], default_embedder()).shape
        (3, 2)
    """
    import numpy as np

    from smoothguard_guardrail.voting.embedder import embed_answers

    positions = np.zeros((len(texts), 2))
    if len(texts) > 1:
        vectors = embed_answers(embedder, texts)
        centred = vectors - vectors.mean(axis=0)
        _, _, components = np.linalg.svd(centred, full_matrices=False)
        projected = centred @ components[:2].T
        positions[:, : projected.shape[1]] = projected
    return positions


def cluster_map(
    title: str, texts: Sequence[str], embedder: Embedder, labels: Sequence[int], winner: int | None
) -> ClusterMap:
    """Return the map of one item's answers.

    Args:
        title: Title of the map.
        texts: Every answer; equal ones become one wording with a count.
        embedder: The embedder of the vote.
        labels: Cluster of every answer.
        winner: Label of the elected cluster; None if none was elected.

    Raises:
        ConfigurationError: The numbers of answers and labels differ.
        AdapterError: The embedder does not return one finite vector per text.

    Example:
        >>> from smoothguard_guardrail.voting import default_embedder
        >>> cluster_map("circles", ["Red.", "Red.", "Blue."], default_embedder(), [0, 0, 1], winner=0).counts
        (2, 1)
    """
    if len(texts) != len(labels):
        raise ConfigurationError(f"expected one label per answer, got {len(labels)} for {len(texts)} answers")
    wordings = Counter(zip(texts, labels, strict=True)).most_common()
    positions = project_answers([text for (text, _), _ in wordings], embedder)
    return ClusterMap(
        title=title,
        positions=tuple((float(x), float(y)) for x, y in positions),
        texts=tuple(text for (text, _), _ in wordings),
        counts=tuple(count for _, count in wordings),
        labels=tuple(int(label) for (_, label), _ in wordings),
        winner=winner,
    )
