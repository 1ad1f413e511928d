"""Reads `--data`: a benchmark's original files, or a Hugging Face dataset on the hub or in a folder."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoothguard_guardrail.errors import ConfigurationError, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smoothguard_guardrail.evaluation.record import PartialBenchmark

BENCHMARKS = ("pope", "llava-bench", "mm-safetybench", "compa-order")
HELP = "Folder of the original files or of a dataset of `datasets`; or `hub:NAME` or `hub:NAME@REVISION`."
_HUB = "hub:"
# Files that identify a layout; one of them is enough.
_ORIGINALS = {
    "pope": ("coco_pope_*.json",),
    "llava-bench": ("questions.jsonl", "context.jsonl", "answers_gpt4.jsonl"),
    "mm-safetybench": ("processed_questions/*.json", "data/processed_questions/*.json"),
    "compa-order": ("CompA_order_benchmark.csv",),
}
_DATASETS = {
    "pope": ("dataset_dict.json", "state.json", "**/test*.parquet"),
    "llava-bench": ("dataset_dict.json", "state.json", "**/train*.parquet"),
    "mm-safetybench": ("*/dataset_dict.json", "*/state.json", "**/Text_only*.parquet"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DataOptions:
    """How a benchmark is read.

    Attributes:
        images: Folder of images or audio; None: the benchmark's. For a dataset, where they are written.
        rule: LLaVA's `rule.json`; None: next to the files.
        parts: Splits of POPE, scenarios of MM-SafetyBench; None: all.
        variant: MM-SafetyBench's.
        universal_image: Of MM-SafetyBench's variant `universal`.
        suffix: Appended to POPE's questions: `single-word`, which is the published one, or a text.
        partial: Accept incomplete files.
        with_media: False: questions only.
    """

    images: Path | None = None
    rule: Path | None = None
    parts: Sequence[str] | None = None
    variant: str | None = None
    universal_image: Path | None = None
    suffix: str | None = None
    partial: bool = False
    with_media: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a benchmark is read from.

    Attributes:
        place: A folder or file, or the name of a dataset on the hub.
        revision: On the hub.
        is_dataset: Whether the package `datasets` reads it.
    """

    place: str | Path
    revision: str | None = None
    is_dataset: bool = False


def load_benchmark(
    name: str,
    data: str,
    options: DataOptions,
    *,
    image_folder: Path | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> PartialBenchmark:
    """Read a benchmark.

    Args:
        name: One of `BENCHMARKS`.
        data: As for `find_source`.
        options: How to read it.
        image_folder: Where a dataset's images are written by default.
        limit: Number of items to draw with `seed`; None: all.
        seed: Of the draw.

    Raises:
        ConfigurationError: The benchmark is unknown, an option is not for it, or a dataset does not exist.
        InputError: A file is missing or wrong.
        MissingDependencyError: The package `datasets` is needed but not installed.
    """
    source = find_source(name, data)
    _check(name, options)
    loaded = (
        _from_dataset(name, source, options, image_folder) if source.is_dataset else _from_files(name, source, options)
    )
    there = {item.category for item in loaded.items}
    if name == "pope" and (absent := [part for part in options.parts or () if part not in there]):
        raise ConfigurationError(f"--data {data}: no question of the split {absent[0]!r}")
    if limit is None or limit >= len(loaded.items):
        return loaded
    if limit < 1:
        raise ConfigurationError(f"--limit must be 1 or more, got {limit}")
    drawn = random.Random(seed).sample([item.id for item in loaded.items], limit)  # noqa: S311 - no secret
    return loaded.part(drawn)


def find_source(name: str, data: str) -> Source:
    """Return what `--data` names. A folder is recognised by the files in it.

    Args:
        name: One of `BENCHMARKS`.
        data: A folder, CompA-order's CSV file, `hub:NAME` or `hub:NAME@REVISION`.

    Raises:
        ConfigurationError: The benchmark is unknown, has no dataset reader, or the folder is of both kinds.
        InputError: The folder does not exist, or is of neither kind.
    """
    if name not in BENCHMARKS:
        raise ConfigurationError(f"expected a benchmark among {', '.join(BENCHMARKS)}, got {name!r}")
    if data.startswith(_HUB):
        return _on_the_hub(name, data)
    path = Path(data)
    if path.is_file() and name == "compa-order":
        return Source(place=path)
    if not path.is_dir():
        raise InputError(f"{data} cannot be read: the folder does not exist")
    original, dataset = _match(path, _ORIGINALS[name]), _match(path, _DATASETS.get(name, _DATASETS["pope"]))
    if original and dataset and name in _DATASETS:
        raise ConfigurationError(
            f"{data} has original files ({original}) and a dataset ({dataset}): give a folder with one of them"
        )
    if original:
        return Source(place=path)
    if dataset:
        _check_reader(name)
        return Source(place=path, is_dataset=True)
    raise InputError(f"{data} does not contain {name}: {_wanted(name)}")


def fingerprints(name: str, data: str, options: DataOptions) -> dict[str, str]:
    """Return the SHA-256 of a benchmark's files, without separate images and audio.

    A dataset on the hub has none: the notes of the scores name its commit.

    Raises:
        InputError: A file cannot be read.
    """
    from smoothguard_guardrail._internal.files import file_sha256

    source = find_source(name, data)
    found = {path.name: file_sha256(path) for path in (options.rule, options.universal_image) if path is not None}
    if not isinstance(source.place, Path):
        return found
    if source.place.is_file():
        return found | {source.place.name: file_sha256(source.place)}
    kinds = {".json", ".jsonl", ".csv"} | ({".parquet", ".arrow"} if source.is_dataset else set())
    paths = sorted(path for path in source.place.rglob("*") if path.suffix in kinds)
    return found | {path.relative_to(source.place).as_posix(): file_sha256(path) for path in paths}


def _on_the_hub(name: str, data: str) -> Source:
    _check_reader(name)
    place, at, revision = data.removeprefix(_HUB).partition("@")
    if not place or (at and not revision):
        raise ConfigurationError(f"--data {data}: give hub:NAME or hub:NAME@REVISION, such as hub:lmms-lab/POPE@main")
    if Path(place).exists():  # `datasets` would read it instead
        raise ConfigurationError(f"--data {data}: {place} is a local folder; give the folder, or run elsewhere")
    return Source(place=place, revision=revision or None, is_dataset=True)


def _check_reader(name: str) -> None:
    if name not in _DATASETS:
        raise ConfigurationError(f"{name} cannot be read as a dataset: give the folder with {_ORIGINALS[name][0]}")


def _match(folder: Path, patterns: Sequence[str]) -> str:
    """Return the first file that matches, relative to the folder; empty if none does."""
    found = (path for pattern in patterns for path in sorted(folder.glob(pattern)))
    first = next(found, None)
    return "" if first is None else first.relative_to(folder).as_posix()


def _wanted(name: str) -> str:
    original = f"none of its original files ({', '.join(_ORIGINALS[name])})"
    if name not in _DATASETS:
        return original
    return f"{original}, and no dataset ({', '.join(_DATASETS[name])})"


def _check(name: str, options: DataOptions) -> None:
    if options.parts and name not in ("pope", "mm-safetybench"):
        raise ConfigurationError("--part is for pope (splits) and mm-safetybench (scenarios)")
    if options.variant and name != "mm-safetybench":
        raise ConfigurationError("variant is for mm-safetybench")
    if options.suffix is not None and name != "pope":
        raise ConfigurationError("suffix is for pope")
    if options.rule is not None and name != "llava-bench":
        raise ConfigurationError("rule is for llava-bench")
    universal = options.variant == "universal"
    if options.universal_image is not None:
        if not universal:
            raise ConfigurationError("universal_image is for mm-safetybench: give the variant universal with it")
        if not options.universal_image.is_file():
            raise InputError(f"universal_image {options.universal_image} does not exist")
    elif universal and options.with_media:
        raise ConfigurationError("variant universal needs the one image for all questions: universal_image")


def _suffix(options: DataOptions) -> str:
    from smoothguard_guardrail.evaluation.datasets.pope import SINGLE_WORD

    return SINGLE_WORD if options.suffix == "single-word" else options.suffix or ""


def _from_files(name: str, source: Source, options: DataOptions) -> PartialBenchmark:
    from smoothguard_guardrail.evaluation import datasets

    folder = Path(source.place)
    common: dict[str, Any] = {"with_media": options.with_media, "complete": not options.partial}
    if name == "pope":
        common |= {"splits": options.parts} if options.parts else {}
        return datasets.Pope.load(folder, images=options.images, suffix=_suffix(options), **common)
    if name == "llava-bench":
        return datasets.LlavaBench.load(folder, images=options.images, rule=options.rule, **common)
    if name == "compa-order":
        return datasets.CompaOrder.load(folder, audio=options.images, **common)
    return datasets.MMSafetyBench.load(folder, images=options.images, **_safety(options), **common)


def _from_dataset(name: str, source: Source, options: DataOptions, image_folder: Path | None) -> PartialBenchmark:
    from smoothguard_guardrail.evaluation import datasets

    common: dict[str, Any] = {
        "images": (options.images or image_folder) if options.with_media else None,
        "revision": source.revision,
        "complete": not options.partial,
    }
    if name == "pope":
        common |= {"splits": options.parts} if options.parts else {}
        return datasets.pope_from_hub(source.place, suffix=_suffix(options), **common)
    if name == "llava-bench":
        return datasets.llava_bench_from_hub(source.place, rule=_rule(source, options), **common)
    return datasets.mm_safetybench_from_hub(source.place, **_safety(options), **common)


def _safety(options: DataOptions) -> dict[str, Any]:
    return {
        "scenarios": options.parts or None,
        "variant": options.variant or "SD_TYPO",
        "universal_image": options.universal_image,
    }


def _rule(source: Source, options: DataOptions) -> Path:
    if options.rule is not None:
        return options.rule
    if isinstance(source.place, Path) and (path := source.place / "rule.json").is_file():
        return path
    raise ConfigurationError("the dataset lacks LLaVA's llava/eval/table/rule.json: give it as rule")
