"""`python -m benchmarks.field.study`: attack real models from package registries, guard them, and write a report.

Images and answers are stored in a folder, so that a stopped run resumes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.field.images import image_part
from benchmarks.field.packages import PackageError, add_cache_option
from benchmarks.field.part import Log, Part
from benchmarks.field.speech import sections as speech_sections
from benchmarks.field.speech import summary as speech_summary
from benchmarks.field.speech_scales import SCALES as SPEECH_SCALES
from benchmarks.field.speech_study import SpeechStudy
from benchmarks.field.spoken_requests import VoiceAssistant
from benchmarks.field.spoken_requests import section as spoken_section
from benchmarks.field.spoken_requests import summary as spoken_summary
from benchmarks.field.spoken_requests import table as spoken_table
from benchmarks.field.stored_scores import stored_detection_section
from benchmarks.field.subjects import GUARDS, SCALES, SEED
from benchmarks.field.transcripts import section as transcripts_section
from smoothguard_guardrail.evaluation.record import device_name, versions
from smoothguard_guardrail.evaluation.report import Report, write_report

DEFAULT_FOLDER = Path("runs/field")
Measure = Callable[[Path, str, Path, Log], Part]


def parts(folder: Path, scale: str, cache: Path, log: Log) -> dict[str, Part]:
    """Measure every part whose packages can be had, all at the same time; says which are skipped."""
    found = {}
    with ThreadPoolExecutor() as pool:
        measures: dict[str, Measure] = {"images": image_part, "speech": speech_part}
        running = {name: pool.submit(part, folder / name, scale, cache, log) for name, part in measures.items()}
        for name, job in running.items():
            try:
                found[name] = job.result()
            except PackageError as error:
                log(f"skipped: {name}: {error}")
    return found


def speech_part(folder: Path, scale: str, cache: Path, log: Log) -> Part:
    """Measure everything about speech.

    Raises:
        PackageError: A package cannot be had.
    """
    measured = SpeechStudy(folder, SPEECH_SCALES[scale], cache)
    sections, summary = [*speech_sections(measured)], [f"**Speech.** {' '.join(speech_summary(measured))}"]
    if measured.scale.on_all:
        sections.append(transcripts_section(measured))
    log("speech")
    try:
        spoken = spoken_table(VoiceAssistant(measured))
        sections.append(spoken_section(spoken))
        summary.append(spoken_summary(spoken))
        log("voice assistant")
    except PackageError as error:
        log(f"skipped: voice assistant: {error}")
    detection = stored_detection_section(folder, "Detection: speech")
    return Part(summary=tuple(summary), sections=(*sections, *(() if detection is None else (detection,))))


def report(found: Mapping[str, Part], *, scale: str, seconds: int, resumed: bool) -> Report:
    """Join the parts into one report."""
    environment: dict[str, Any] = {
        "command": f"python -m benchmarks.field.study --scale {scale}",
        "seconds": seconds,
        "processor seconds": round(time.process_time()),
        "resumed from stored media and answers": resumed,
        "parts": list(found),
        "versions": versions(),
        "device": device_name(),
        "seed": SEED,
        "scale": {"images": asdict(SCALES[scale]), "speech": asdict(SPEECH_SCALES[scale])},
        "guards": {name: config.model_dump(mode="json") for name, config in GUARDS.items()},
    }
    return Report(
        title="SmoothGuard on real models: a field study",
        summary=tuple(paragraph for part in found.values() for paragraph in part.summary),
        sections=tuple(section for part in found.values() for section in part.sections),
        environment=json.loads(json.dumps(environment)),
    )


def main() -> None:
    """Read the command line, run the study, write its report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scale", choices=tuple(SCALES), default="standard")
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER, help="stores media and answers")
    parser.add_argument("--out", type=Path, default=Path("docs/field"), help="where report.html and report.json go")
    add_cache_option(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)  # the parts share the cores
    cache = Path(options.cache or options.folder / "packages")
    started, resumed = time.perf_counter(), any(options.folder.glob("*/*.jsonl"))

    def log(what: str) -> None:
        print(f"{time.perf_counter() - started:6.0f} s  {what}", flush=True)

    found = parts(options.folder, options.scale, cache, log)
    if not found:
        return
    seconds = round(time.perf_counter() - started)
    page, _ = write_report(report(found, scale=options.scale, seconds=seconds, resumed=resumed), options.out)
    print(f"report: {page}")


if __name__ == "__main__":
    main()
