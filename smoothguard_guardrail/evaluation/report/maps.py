"""Maps of answers: where wordings lie, how often each was given, and which cluster won."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from smoothguard_guardrail.errors import ConfigurationError
from smoothguard_guardrail.evaluation.report.content import ClusterMap
from smoothguard_guardrail.evaluation.report.markup import Html, element

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from smoothguard_guardrail.protocols import Embedder

WIDTH, HEIGHT, MARGIN = 480, 280, 44
MAX_RADIUS = 36.0
MAX_UNIT = 14.0
"""Radius of the disc of a wording that was given once, at most."""
NUM_COLOURS = 8
MIN_NUMBERED = 8.0
"""Radius from which on a disc has room for its number."""


def principal_places(texts: Sequence[str], embedder: Embedder) -> NDArray[np.float64]:
    """Return where texts lie on the first two principal components of their embeddings, as float64 (num_texts, 2).

    Raises:
        AdapterError: The embedder does not return one finite vector per text.

    Example:
        >>> from smoothguard_guardrail.voting import default_embedder
        >>> principal_places(["A red circle.", "A blue square.", "No."], default_embedder()).shape
        (3, 2)
    """
    import numpy as np

    from smoothguard_guardrail.voting.embedder import embed_answers

    places = np.zeros((len(texts), 2))
    if len(texts) > 1:
        vectors = embed_answers(embedder, texts)
        centred = vectors - vectors.mean(axis=0)
        _, _, components = np.linalg.svd(centred, full_matrices=False)
        found = centred @ components[:2].T
        places[:, : found.shape[1]] = found
    return places


def cluster_map(
    title: str, texts: Sequence[str], embedder: Embedder, labels: Sequence[int], winner: int | None
) -> ClusterMap:
    """Return the map of one item's answers.

    Args:
        title: What the map is of.
        texts: Every answer; equal ones are counted.
        embedder: What the vote embeds with.
        labels: Cluster of every answer.
        winner: Label of the elected cluster; None where none was.

    Raises:
        ConfigurationError: There is not one label per answer.
        AdapterError: The embedder does not return one finite vector per text.

    Example:
        >>> from smoothguard_guardrail.voting import default_embedder
        >>> cluster_map("circles", ["Red.", "Red.", "Blue."], default_embedder(), [0, 0, 1], winner=0).counts
        (2, 1)
    """
    if len(texts) != len(labels):
        raise ConfigurationError(f"{len(texts)} answers have {len(labels)} labels: give one label per answer")
    wordings = Counter(zip(texts, labels, strict=True)).most_common()
    places = principal_places([text for (text, _), _ in wordings], embedder)
    return ClusterMap(
        title=title,
        places=tuple((float(x), float(y)) for x, y in places),
        texts=tuple(text for (text, _), _ in wordings),
        counts=tuple(count for _, count in wordings),
        labels=tuple(int(label) for (_, label), _ in wordings),
        winner=winner,
    )


def drawn_map(content: ClusterMap, key: str) -> Html:
    """Return a figure: discs as large as wordings are frequent, and the wordings as a list with the discs' numbers.

    Args:
        content: What it shows.
        key: Unique within the page.
    """
    caption = element("figcaption", content.title, id=f"{key}-title")
    if not content.texts:
        return element("figure", caption, element("p", "There are no answers.", class_="note"), id=key)
    order = sorted(range(len(content.texts)), key=lambda place: -content.counts[place])
    colours = _colours(content)
    num_answers, num_clusters = sum(content.counts), len(colours)
    told = f"{num_answers} answers in {len(order)} wordings and {num_clusters} clusters. The wordings follow as a list."
    centres = _centres(content)
    drawing = element(
        "svg",
        element("title", content.title, id=f"{key}-name"),
        element("desc", told, id=f"{key}-told"),
        *(_disc(content, place, number, centres[place], colours) for number, place in enumerate(order, start=1)),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_labelledby=f"{key}-name {key}-told",
    )
    wordings = element("ol", *(_wording(content, place, colours) for place in order), class_="wordings", tabindex="0")
    return element("figure", caption, drawing, wordings, id=key, class_="drawing map")


def _colours(content: ClusterMap) -> dict[int, int]:
    """Number the clusters, the largest first."""
    sizes: Counter[int] = Counter()
    for label, count in zip(content.labels, content.counts, strict=True):
        sizes[label] += count
    return {label: number for number, (label, _) in enumerate(sizes.most_common())}


def _centres(content: ClusterMap) -> list[tuple[float, float]]:
    """Return the middles of the discs; both axes have one scale, so that distances compare."""
    xs, ys = zip(*content.places, strict=True)
    across, down = _extent(xs), _extent(ys)
    spans = [
        (room - 2 * MARGIN) / (high - low)
        for room, (low, high) in ((WIDTH, across), (HEIGHT, down))
        if high - low > 1e-9
    ]
    scale = min(spans, default=1.0)
    return [
        (WIDTH / 2 + scale * (x - sum(across) / 2), HEIGHT / 2 - scale * (y - sum(down) / 2)) for x, y in content.places
    ]


def _extent(values: Iterable[float]) -> tuple[float, float]:
    known = list(values)
    return min(known), max(known)


def _disc(content: ClusterMap, place: int, number: int, centre: tuple[float, float], colours: dict[int, int]) -> Html:
    x, y = centre
    unit = min(MAX_UNIT, MAX_RADIUS / math.sqrt(max(content.counts) or 1))
    radius = unit * math.sqrt(content.counts[place])
    label = content.labels[place]
    inside = radius >= MIN_NUMBERED
    return element(
        "g",
        element("title", f"{content.counts[place]} × {content.texts[place]}"),
        element("circle", cx=x, cy=y, r=radius + 2.5, class_="rim") if label == content.winner else None,
        element("circle", cx=x, cy=y, r=radius, class_="disc"),
        element("text", str(number), x=x if inside else x + radius + 4, y=y + 4, class_="inside" if inside else "tick"),
        class_=f"c{colours[label] % NUM_COLOURS}",
    )


def _wording(content: ClusterMap, place: int, colours: dict[int, int]) -> Html:
    label = content.labels[place]
    elected = ", elected" if label == content.winner else ""
    return element(
        "li",
        element("span", f"{content.counts[place]} × ", class_="count"),
        element("q", content.texts[place]),
        " ",
        element("span", f"cluster {colours[label] + 1}{elected}", class_=f"cluster c{colours[label] % NUM_COLOURS}"),
    )
