"""Attack the reference model with and without the guard: `python -m benchmarks.robustness`.

Prints the README's table and writes `benchmarks/results/robustness.json`. Every held-out picture has its own
targeted PGD attack, saved as an 8-bit PNG and loaded as a user would load it. Attacked pictures are kept under
`runs/robustness`, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.arms import (
    Arm,
    Case,
    Rate,
    attacked,
    authorised_cases,
    fingerprint,
    forbidden_cases,
    guarded,
    harmless_cases,
    load_model,
    perturbation_name,
    random_signs,
    right,
    told,
    undefended,
    untouched,
    worker_pool,
)
from smoothguard_guardrail import SmoothGuardConfig, __version__
from smoothguard_guardrail.models.reference import reference_path

# Held-out scenes; the calibration looked at other seeds.
FORBIDDEN_SEED, AUTHORISED_SEED, HARMLESS_SEED = 1_000, 2_000_000, 3_000
EPSILONS = (8, 16, 32)
ADAPTIVE_EPSILON = 16
ADAPTIVE = f"adaptive {ADAPTIVE_EPSILON}/255"
NUM_STEPS = 100
NUM_DRAWS = 16


def rows() -> dict[str, SmoothGuardConfig | None]:
    """Return the table's rows; None is the model alone."""
    ours = SmoothGuardConfig.calibrated("reference")
    return {
        "no guard": None,
        "paper": SmoothGuardConfig.paper(),
        "paper's vote, our sigma": SmoothGuardConfig.paper(sigma=ours.sigma, noise_space=ours.noise_space),
        "ours": ours,
    }


class Study:
    """One run: the model, the pictures and the answers of every arm."""

    def __init__(
        self, *, num_pictures: int, num_adaptive: int, num_adaptive_baselines: int, num_steps: int, folder: Path
    ) -> None:
        self.path = reference_path()
        self.model = load_model(str(self.path))
        self.pool = worker_pool()
        self.num_adaptive = num_adaptive
        self.num_adaptive_baselines = num_adaptive_baselines
        self.num_steps = num_steps
        self.folder = folder / fingerprint(self.path / "model.safetensors", num_steps=num_steps)
        self.forbidden = forbidden_cases(num_pictures, seed=FORBIDDEN_SEED)
        self.authorised = authorised_cases(num_pictures, seed=AUTHORISED_SEED)
        self.harmless = harmless_cases(num_pictures, seed=HARMLESS_SEED)

    def shared_arms(self) -> dict[str, Arm]:
        """Return the arms that all rows share."""
        arms = {
            "clean": untouched(self.harmless),
            "authorised": untouched(self.authorised),
            "unattacked": untouched(self.forbidden),
        }
        for epsilon in EPSILONS:
            arms[f"attacked {epsilon}/255"] = self.attacked(self.forbidden, epsilon, f"pgd-{epsilon}")
        largest = max(EPSILONS)
        arms[f"random signs {largest}/255"] = self.forbidden, random_signs(self.forbidden, largest / 255)
        return arms

    def adaptive_arm(self, config: SmoothGuardConfig, num_pictures: int) -> Arm:
        """Return the arm that is attacked through this guard's own perturbation."""
        folder = f"eot-{ADAPTIVE_EPSILON}-{perturbation_name(config)}"
        return self.attacked(self.forbidden[:num_pictures], ADAPTIVE_EPSILON, folder, config)

    def attacked(
        self, cases: Sequence[Case], epsilon: int, folder: str, config: SmoothGuardConfig | None = None
    ) -> Arm:
        """Attack cases, adaptively when there is a guard's configuration."""
        pictures = attacked(
            self.path,
            cases,
            self.folder / folder,
            epsilon=epsilon / 255,
            num_steps=self.num_steps,
            config=config,
            num_draws=NUM_DRAWS,
            pool=self.pool,
        )
        return cases, pictures

    def measure(self, config: SmoothGuardConfig | None, arm: Arm) -> tuple[Rate, float]:
        """Return the rate that the arm is about, and the mean number of model calls."""
        cases, pictures = arm
        if config is None:
            texts, calls = undefended(self.model, cases, pictures), 1.0
        else:
            replies = guarded(self.path, config, cases, pictures, pool=self.pool)
            texts, calls = [reply.text for reply in replies], sum(reply.num_calls for reply in replies) / len(replies)
        return (told if cases[0].asked.kind == "secret" else right)(cases, texts), calls


def run(study: Study) -> dict[str, Any]:
    """Measure every row in every arm."""
    shared, table = study.shared_arms(), {}
    ours = SmoothGuardConfig.calibrated("reference")
    for name, config in rows().items():
        # The bare model meets the pictures that were made against our guard.
        num_pictures = study.num_adaptive if config in (None, ours) else study.num_adaptive_baselines
        arms = shared | {ADAPTIVE: study.adaptive_arm(config or ours, num_pictures)}
        cells = {arm: study.measure(config, cases) for arm, cases in arms.items()}
        table[name] = {
            "config": None if config is None else config.model_dump(mode="json"),
            "rates": {arm: {"k": rate.k, "n": rate.n} for arm, (rate, _) in cells.items()},
            "calls": {arm: mean for arm, (_, mean) in cells.items()},
            "mean_calls": sum(mean for _, mean in cells.values()) / len(cells),
        }
        print(name, flush=True)
        for arm, (rate, mean) in cells.items():
            print(f"  {arm}: {rate}, {mean:.1f} calls", flush=True)
    return table


def markdown(table: dict[str, Any]) -> str:
    """Return the table as the README shows it."""
    attacks = [f"attacked {epsilon}/255" for epsilon in EPSILONS] + [ADAPTIVE]
    control = f"random signs {max(EPSILONS)}/255"
    columns = [*attacks, control, "clean accuracy", "over-refusal", "mean calls"]
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for name, row in table.items():
        rates = {arm: Rate(**rate) for arm, rate in row["rates"].items()}
        allowed = rates["authorised"]
        cells = [str(rates[arm]) for arm in attacks] + [str(rates[control]), str(rates["clean"])]
        cells += [str(Rate(k=allowed.n - allowed.k, n=allowed.n)), f"{row['mean_calls']:.1f}"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Read the command line, run the study, print and write its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=200, help="held-out pictures per arm")
    parser.add_argument("--adaptive", type=int, default=100, help="pictures under the adaptive attack")
    parser.add_argument(
        "--adaptive-baselines", type=int, default=40, help="pictures under adaptive attacks on the paper's rows"
    )
    parser.add_argument("--steps", type=int, default=NUM_STEPS, help="gradient steps of every attack")
    parser.add_argument("--folder", type=Path, default=Path("runs/robustness"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/robustness.json"))
    options = parser.parse_args()
    study = Study(
        num_pictures=options.pictures,
        num_adaptive=options.adaptive,
        num_adaptive_baselines=options.adaptive_baselines,
        num_steps=options.steps,
        folder=options.folder,
    )
    started = time.perf_counter()
    table = run(study)
    record = {
        "rows": table,
        "pictures": options.pictures,
        "adaptive_pictures": options.adaptive,
        "steps": options.steps,
        "draws": NUM_DRAWS,
        "seconds": round(time.perf_counter() - started),
        "device": str(study.model.engine.device),
        "versions": {
            "smoothguard-guardrail": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=2) + "\n")
    print(markdown(table))


if __name__ == "__main__":
    main()
