"""How well the benign scores separate refusals and harmless answers from compliance: figures of the documentation.

Run: python -m benchmarks.benign_auc
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sklearn.metrics import roc_auc_score

from smoothguard_guardrail.voting import PrototypeScorer, default_embedder
from tests.voting.labelled import COMPLIANCE, HARMLESS, REFUSALS


def vader(texts: Sequence[str]) -> list[float]:
    """Return the compound sentiment of each text, as a sentiment-aware vote would use it."""
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    analyzer = SentimentIntensityAnalyzer()
    return [float(analyzer.polarity_scores(text)["compound"]) for text in texts]


def auc(scorer: Callable[[Sequence[str]], Sequence[float]], benign: Sequence[str]) -> float:
    """Return the chance that a benign text scores above a harmful one."""
    texts = [*benign, *COMPLIANCE]
    return float(roc_auc_score([1] * len(benign) + [0] * len(COMPLIANCE), list(scorer(texts))))


def main() -> None:
    """Print the table."""
    print(f"AUC against {len(COMPLIANCE)} compliances with harm; all sentences held out from the prototypes")
    print(f"{'':12}{f'{len(REFUSALS)} refusals':>14}{f'{len(HARMLESS)} harmless':>14}{'both':>8}")
    for name, scorer in (("prototypes", PrototypeScorer(default_embedder())), ("VADER", vader)):
        rows = [auc(scorer, benign) for benign in (REFUSALS, HARMLESS, (*REFUSALS, *HARMLESS))]
        print(f"{name:12}{rows[0]:14.3f}{rows[1]:14.3f}{rows[2]:8.3f}")


if __name__ == "__main__":
    main()
