"""How well the suspicion score tells attacked requests from others, on the images of the study.

Run: python -m benchmarks.suspicion, after `make study`, whose stored images it uses.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.detection import Scores, alarms, roc_area, suspicion_score
from benchmarks.study.design import SCALES
from benchmarks.study.measure import Study
from benchmarks.study.sections import plain
from smoothguard_guardrail import SmoothGuardConfig
from smoothguard_guardrail.core.components import GuardComponents
from smoothguard_guardrail.evaluation.items import Item
from smoothguard_guardrail.evaluation.mappers import InThreads

FALSE_ALARMS = 0.05
"""Rate of false alarms at which the threshold is set."""


def scores(study: Study, config: SmoothGuardConfig, items: Sequence[Item], num_copies: int) -> Scores:
    """Return the suspicion of every item, by its image, from its clean copy and a number of perturbed ones."""
    components, found = GuardComponents(), {}
    for item, copies in zip(items, study.copies(config, items, num_copies=num_copies), strict=True):
        texts = [text or "" for text in (copies.clean, *copies.answers)]
        found[item.id] = suspicion_score(texts, config, components)
    return found


def main() -> None:
    """Print the areas under the curves, and the alarms at the threshold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", choices=tuple(SCALES), default="standard")
    parser.add_argument("--folder", type=Path, help="of the study; default: runs/study/SCALE")
    options = parser.parse_args()
    folder = options.folder or Path("runs/study") / options.scale
    study = Study(folder=folder, scale=SCALES[options.scale], mapper=InThreads(2))
    tasks, config = study.tasks(), SmoothGuardConfig.reference()
    ours = study.escalate("ours", tasks.requests.items[: study.scale.escalated], config, study.scale.budgets)
    attacked = {
        "attacked 16/255": plain(study, tasks.requests.items, 16),
        "attacked 32/255": plain(study, tasks.requests.items, 32),
        "adaptive 16/255": ours.items,
    }
    print(
        "| copies beside the clean one | attack | AUC | threshold | alarms | false alarms |\n|---|---|---|---|---|---|"
    )
    for num_copies in (1, 2, 4):
        honest = scores(study, config, (*tasks.harmless, *tasks.authorised), num_copies)
        for name, items in attacked.items():
            found = scores(study, config, items, num_copies)
            at = alarms(honest, found, FALSE_ALARMS)
            print(
                f"| {num_copies} | {name} | {roc_area(honest, found):.3f} | > {at.threshold:.2f} |"
                f" {at.found.k}/{at.found.n} | {at.false.k}/{at.false.n} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
