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
    Case,
    KeptEmbeddings,
    Rate,
    attacked,
    authorised_cases,
    fingerprint,
    forbidden_cases,
    guarded,
    harmless_cases,
    random_signs,
    right,
    told,
    undefended,
)
from smoothguard_guardrail import SmoothGuardConfig, __version__
from smoothguard_guardrail.models import ChatTransformersMultimodal
from smoothguard_guardrail.models.reference import reference_path

# Held-out scenes; the calibration looked at other seeds.
FORBIDDEN_SEED, AUTHORISED_SEED, HARMLESS_SEED = 1_000, 2_000_000, 3_000
EPSILONS = (8, 16, 32)
ADAPTIVE_EPSILON = 16
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

    def __init__(self, *, num_pictures: int, num_adaptive: int, num_steps: int, folder: Path) -> None:
        path = reference_path()
        self.model = ChatTransformersMultimodal.from_pretrained(str(path))
        self.embedder = KeptEmbeddings()
        self.num_adaptive = num_adaptive
        self.num_steps = num_steps
        self.folder = folder / fingerprint(path / "model.safetensors", num_steps=num_steps)
        self.forbidden = forbidden_cases(num_pictures, seed=FORBIDDEN_SEED)
        self.authorised = authorised_cases(num_pictures, seed=AUTHORISED_SEED)
        self.harmless = harmless_cases(num_pictures, seed=HARMLESS_SEED)

    def arms(self) -> dict[str, tuple[Sequence[Case], list[torch.Tensor]]]:
        """Return cases and pictures of every arm that all rows share."""
        arms: dict[str, tuple[Sequence[Case], list[torch.Tensor]]] = {
            "clean": (self.harmless, [case.pixels for case in self.harmless]),
            "authorised": (self.authorised, [case.pixels for case in self.authorised]),
            "unattacked": (self.forbidden, [case.pixels for case in self.forbidden]),
        }
        for epsilon in EPSILONS:
            folder = self.folder / f"pgd-{epsilon}"
            pictures = attacked(self.model, self.forbidden, folder, epsilon=epsilon / 255, num_steps=self.num_steps)
            arms[f"attacked {epsilon}/255"] = (self.forbidden, pictures)
        largest = max(EPSILONS)
        arms[f"random signs {largest}/255"] = (self.forbidden, random_signs(self.forbidden, largest / 255))
        return arms

    def adaptive(self, name: str, config: SmoothGuardConfig) -> tuple[Sequence[Case], list[torch.Tensor]]:
        """Return the cases attacked through this guard's own perturbation."""
        cases = self.forbidden[: self.num_adaptive]
        knobs = f"{config.sigma}-{config.noise_space}-{config.low_pass}-{config.max_shift}-{config.resize_range}"
        folder = self.folder / f"eot-{ADAPTIVE_EPSILON}-{knobs.replace(' ', '')}"
        pictures = attacked(
            self.model,
            cases,
            folder,
            epsilon=ADAPTIVE_EPSILON / 255,
            num_steps=self.num_steps,
            config=config,
            num_draws=NUM_DRAWS,
        )
        return cases, pictures

    def measure(
        self, config: SmoothGuardConfig | None, cases: Sequence[Case], pictures: list[torch.Tensor]
    ) -> tuple[Rate, float]:
        """Return the rate that the cases are about, and the mean number of model calls."""
        if config is None:
            texts, calls = [reply.text for reply in undefended(self.model, cases, pictures)], 1.0
        else:
            results = guarded(self.model, config, self.embedder, cases, pictures)
            texts = [str(result.answer.content) for result in results]
            calls = sum(result.num_calls for result in results) / len(results)
        return (told if cases[0].asked.kind == "secret" else right)(cases, texts), calls


def run(study: Study) -> dict[str, Any]:
    """Measure every row in every arm."""
    shared, table = study.arms(), {}
    for name, config in rows().items():
        started = time.perf_counter()
        cells = {arm: study.measure(config, *cases) for arm, cases in shared.items()}
        if config is not None:
            cells[f"adaptive {ADAPTIVE_EPSILON}/255"] = study.measure(config, *study.adaptive(name, config))
        else:
            # The strongest of the guards' adaptive attacks is still an attack on the bare model.
            cells[f"adaptive {ADAPTIVE_EPSILON}/255"] = study.measure(
                None, *study.adaptive(name, SmoothGuardConfig.calibrated("reference"))
            )
        calls = sum(mean for _, mean in cells.values()) / len(cells)
        table[name] = {
            "config": None if config is None else config.model_dump(mode="json"),
            "rates": {arm: {"k": rate.k, "n": rate.n} for arm, (rate, _) in cells.items()},
            "calls": {arm: mean for arm, (_, mean) in cells.items()},
            "mean_calls": calls,
        }
        print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)
        for arm, (rate, mean) in cells.items():
            print(f"  {arm}: {rate}, {mean:.1f} calls", flush=True)
    return table


def markdown(table: dict[str, Any]) -> str:
    """Return the table as the README shows it."""
    attacks = [f"attacked {epsilon}/255" for epsilon in EPSILONS] + [f"adaptive {ADAPTIVE_EPSILON}/255"]
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
    parser.add_argument("--adaptive", type=int, default=200, help="pictures under the adaptive attack")
    parser.add_argument("--steps", type=int, default=NUM_STEPS, help="gradient steps of every attack")
    parser.add_argument("--folder", type=Path, default=Path("runs/robustness"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/robustness.json"))
    options = parser.parse_args()
    study = Study(
        num_pictures=options.pictures,
        num_adaptive=options.adaptive,
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
