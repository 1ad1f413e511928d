"""What the page and the exported file show: HTML, rendered from a run and the result of a vote on it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from smoothguard_guardrail.evaluation.report import cluster_map
from smoothguard_guardrail.evaluation.report.page import template_environment
from smoothguard_guardrail.evaluation.report.plots import NUM_COLOURS, draw_map
from smoothguard_guardrail.evaluation.shared import shared_embeddings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smoothguard_guardrail.config import SmoothGuardConfig
    from smoothguard_guardrail.inspector.run import GuardedRun
    from smoothguard_guardrail.protocols import Embedder
    from smoothguard_guardrail.result import GuardResult, Stance

STANCES: dict[Stance, str] = {"answers": "answers", "refuses": "refuses", "unsure": "is unsure"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """Equal answers of one group."""

    number: int
    """Of its disc on the map, from 1."""
    text: str
    label: int
    """Of its group."""
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One group of answers, as a bar."""

    label: int
    stance: str
    size: int
    share: float
    needed: float
    """Share from which it is sure to win, or to pass as the largest."""
    won: bool
    wordings: tuple[Wording, ...]

    @property
    def colour(self) -> int:
        """Number of its colour."""
        return colour_of(self.label)


def colour_of(label: int) -> int:
    """Return the number of a group's colour: bars, map and answers agree on it."""
    return label % NUM_COLOURS


def wordings_of(result: GuardResult) -> list[Wording]:
    """Return the distinct answers, the most frequent first."""
    found = Counter(
        (each.text, each.cluster) for each in result.samples if each.text is not None and each.cluster is not None
    )
    return [
        Wording(number=number, text=text, label=label, count=count)
        for number, ((text, label), count) in enumerate(found.most_common(), start=1)
    ]


def groups_of(result: GuardResult, config: SmoothGuardConfig) -> list[Group]:
    """Return the groups of the vote, the largest first."""
    wordings, num_answers = wordings_of(result), sum(cluster.size for cluster in result.clusters)
    by_stance = config.vote.rule == "stance"
    refusals = config.vote.refusals_needed(num_answers) / num_answers if num_answers else 0.0
    return [
        Group(
            label=cluster.label,
            stance=STANCES[cluster.stance],
            size=cluster.size,
            share=cluster.share,
            needed=refusals if by_stance and cluster.stance == "refuses" else config.vote.min_agreement,
            won=cluster.label == result.winner,
            wordings=tuple(each for each in wordings if each.label == cluster.label),
        )
        for cluster in result.clusters
    ]


def headline(result: GuardResult) -> tuple[str, str]:
    """Return what the guard did in a few words, and the kind of it: good, stopped or plain."""
    if result.verdict == "skipped":
        return "Nothing to guard: the request has no media", "plain"
    refuses = any(each.label == result.winner and each.stance == "refuses" for each in result.clusters)
    if refuses:
        return "Refused by the vote", "stopped"
    if result.verdict == "abstained":
        withheld = result.action == "refused"
        return ("Withheld: the answers disagree" if withheld else "Answered, though the answers disagree"), "stopped"
    return "Passed", "good"


def figures_of(run: GuardedRun, result: GuardResult, *, early_calls: int | None = None) -> list[tuple[str, str, str]]:
    """Return name, value and explanation of every figure of a call.

    Args:
        run: The run.
        result: Of the vote on it.
        early_calls: Calls that the guard would have made with early stopping; None: not known.
    """
    seconds = (run.result or result).timings.get("total", 0.0)
    rows = [
        ("Agreement", f"{result.agreement:.0%}", "answers in the winning group"),
        ("Suspicion", *_suspicion(result)),
        ("Calls", str(result.num_calls), f"{early_calls} with early stopping" if early_calls else "of the model"),
        ("Tokens", *_tokens(result)),
        ("Bytes", *_bytes(run.num_bytes)),
        ("Noise", *_noise(result)),
        ("Time", f"{seconds:.1f} s", "for copies, model and vote"),
    ]
    return [row for row in rows if result.verdict != "skipped" or row[0] in ("Calls", "Tokens", "Time")]


def _suspicion(result: GuardResult) -> tuple[str, str]:
    if result.suspicion is None:
        return "–", "needs a clean copy, see the settings"
    note = "above the threshold" if result.suspicious else "how much the clean copy's answer differs"
    return f"{result.suspicion:.2f}", note


def _tokens(result: GuardResult) -> tuple[str, str]:
    usage = result.usage
    if usage is None:
        return "–", "the model reports none"
    return f"{usage['total_tokens']:,}", f"{usage['input_tokens']:,} in, {usage['output_tokens']:,} out"


def _bytes(count: int | None) -> tuple[str, str]:
    if count is None:
        return "–", "none: the model takes tensors"
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 1024:.0f} KiB", "of encoded copies"


def _noise(result: GuardResult) -> tuple[str, str]:
    added = [each.noise_sd for each in result.media if each.noise_sd is not None]
    left = [each.effective_sd for each in result.media if each.effective_sd is not None]
    if left:
        return f"{sum(left) / len(left):.3f}", "sd at the model's input"
    return (f"{sum(added) / len(added):.3f}", "sd as added; what the model sees is unknown") if added else ("–", "none")


def draw_answers(result: GuardResult, key: str, embedder: Embedder | None = None) -> Markup | None:
    """Return the map of the answers as SVG: similar answers are close, a disc is a wording, its colour the group.

    Args:
        result: Of the vote.
        key: Prefix of ids, unique within the page.
        embedder: Of the answers; None: the guard's default, one for the process.

    Returns:
        None if there are fewer than two wordings.
    """
    wordings = wordings_of(result)
    if len(wordings) < 2:
        return None
    texts = [text for each in wordings for text in [each.text] * each.count]
    labels = [label for each in wordings for label in [each.label] * each.count]
    drawn = cluster_map("", texts, embedder or shared_embeddings(), labels, result.winner)
    return draw_map(drawn, range(len(drawn.texts)), {each.label: colour_of(each.label) for each in wordings}, key)


def render_run(
    run: GuardedRun,
    result: GuardResult | None = None,
    *,
    config: SmoothGuardConfig | None = None,
    notice: str = "",
    early_calls: int | None = None,
    key: str = "run",
    with_map: bool = True,
    embedder: Embedder | None = None,
) -> Markup:
    """Return a run as HTML.

    Args:
        run: The run, finished or not.
        result: Of another vote on its answers; None: the run's own.
        config: Of that vote; None: the run's own.
        notice: A sentence about it.
        early_calls: Calls with early stopping; see `figures_of`.
        key: Prefix of ids, unique within the page.
        with_map: Whether to draw the answers' embeddings, which needs matplotlib.
        embedder: Of the answers; see `draw_answers`.
    """
    result, config = result or run.result, config or run.config
    return render_macro(
        "run",
        run=run,
        result=result,
        answer=str(result.answer.text) if result else "",
        config=config,
        notice=notice,
        samples=_samples(run, result),
        headline=headline(result) if result else None,
        figures=figures_of(run, result, early_calls=early_calls) if result else (),
        groups=groups_of(result, config) if result else (),
        map=draw_answers(result, key, embedder) if result and with_map else None,
        with_map=with_map,
    )


def render_message(text: str, kind: str = "plain") -> Markup:
    """Return a sentence as HTML; the kind is `plain` or `stopped`."""
    return render_macro("message", text=text, kind=kind)


def _samples(run: GuardedRun, result: GuardResult | None) -> Sequence[dict[str, object]]:
    """Return what is shown of every sample: what it saw, and what it answered."""
    known = {sample.index: sample for sample in result.samples} if result else {}
    shown: list[dict[str, object]] = []
    for index, outcome in enumerate(run.outcomes):
        sample = known.get(index)
        shown.append(
            {
                "name": "clean copy" if run.config.include_clean and index == 0 else f"copy {index + 1}",
                "media": run.copies[index],
                "text": run.texts[index],
                "error": f"{type(outcome).__name__}: {outcome}" if isinstance(outcome, Exception) else None,
                "stance": STANCES[sample.stance] if sample and sample.stance else None,
                "colour": colour_of(sample.cluster) if sample and sample.cluster is not None else None,
                "counted": result is None or sample is not None,
            }
        )
    return shown


def render_macro(macro: str, **values: object) -> Markup:
    """Return what a macro of the templates makes of these values; texts are escaped."""
    module = template_environment(__package__ or "").get_template("parts.html.jinja").module
    return Markup(getattr(module, macro)(**values))  # noqa: S704 - the template escapes
