"""`python -m benchmarks.study`: attack and guard the reference model in every arm, and write the report.

Everything is stored in a folder, so that a stopped run resumes. On two cores `--scale quick` takes 34
minutes and `standard` more than an hour; `large` is for a GPU.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.study.adaptive import escalation_section, others_section
from benchmarks.study.arenas import arena_sections, fooling_arena, secrets_arena
from benchmarks.study.candidates import candidates_section, votes_section
from benchmarks.study.design import CANDIDATES, SCALES, guards
from benchmarks.study.detection import reference_detection
from benchmarks.study.measure import ARENA_SCENES, SEED, SELECTION_SCENES, TEST_SCENES, Study
from benchmarks.study.sections import arms_section, headline, headline_section, sigma_section
from benchmarks.study.showing import cases_section
from benchmarks.study.summary import markdown, summary
from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.evaluation.arena_report import arena_sentences
from smoothguard_guardrail.evaluation.mappers import InProcesses
from smoothguard_guardrail.evaluation.record import device_name, versions
from smoothguard_guardrail.evaluation.report import Report, write_report


def run(study: Study, *, scale: str) -> tuple[Report, str]:
    """Measure everything; returns the report and the table of docs/measurements.md."""
    started, resumed = time.perf_counter(), (study.folder / "answers.jsonl").exists()

    def log(what: str) -> None:
        print(f"{time.perf_counter() - started:6.0f} s  {what}", flush=True)

    candidates, choice = candidates_section(study)
    log(f"the choice: {choice}")
    rows = headline(study)
    table = markdown(rows)
    log("the table:\n" + table)
    ours = SmoothGuardConfig.reference()
    secrets = secrets_arena(study, ours)
    log("the arena: " + " ".join(arena_sentences(secrets.result)))
    fooling = fooling_arena(study, ours)
    log("wrong answers: " + " ".join(arena_sentences(fooling.result)))
    sections = [headline_section(rows), *arena_sections(secrets, fooling), escalation_section(study, rows), candidates]
    sections.append(votes_section(study, secrets.attacked()))
    log("rules of the vote")
    sections.append(reference_detection(study, ours, secrets))
    log("detection")
    sections.append(sigma_section(study))
    log("noise")
    arms, others = arms_section(study), others_section(study)
    sections += [arms, others]
    log("arms and other attacks")
    sections.append(cases_section(study, secrets))
    return (
        Report(
            title="How far SmoothGuard holds: a study on the reference model",
            summary=summary(rows, choice, arms, others, secrets.result, fooling.result),
            sections=tuple(sections),
            environment=environment(study, scale=scale, seconds=round(time.perf_counter() - started), resumed=resumed),
        ),
        table,
    )


def environment(study: Study, *, scale: str, seconds: int, resumed: bool) -> dict[str, Any]:
    """Return what is needed to repeat the study."""
    found = {
        "command": f"python -m benchmarks.study --scale {scale}",
        "seconds": seconds,
        "resumed from stored images and answers": resumed,
        "model": study.identity.model_dump(mode="json"),
        "versions": versions(),
        "device": device_name(),
        "seeds": {
            "noise": SEED,
            "scenes": TEST_SCENES,
            "scenes of the arenas": list(ARENA_SCENES),
            "scenes of the choice": SELECTION_SCENES,
        },
        "scale": asdict(study.scale),
        "guards": {
            name: None if config is None else config.model_dump(mode="json") for name, config in guards().items()
        },
        "candidates": CANDIDATES,
    }
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain


def main() -> None:
    """Read the command line, run the study, write its report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scale", choices=tuple(SCALES), default="standard")
    parser.add_argument("--folder", type=Path, help="stores images and answers; default: runs/study/SCALE")
    parser.add_argument("--out", type=Path, default=Path("docs/study"), help="where report.html and report.json go")
    options = parser.parse_args()
    mapper = InProcesses(1 if torch.cuda.is_available() else None)
    try:
        study = Study(
            folder=options.folder or Path("runs/study") / options.scale, scale=SCALES[options.scale], mapper=mapper
        )
        report, table = run(study, scale=options.scale)
    finally:
        mapper.close()
    page, _ = write_report(report, options.out)
    print(table)
    print(f"report: {page}")


if __name__ == "__main__":
    main()
