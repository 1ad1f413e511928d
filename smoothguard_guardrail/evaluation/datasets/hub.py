"""Benchmarks read from Hugging Face datasets, on the hub or in a folder: the same items as in the original files.

Images are written once, byte for byte, under the names of the original layout. A folder is read without network: the
output of `Dataset.save_to_disk`, or the parquet files of a downloaded repository.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoothguard_guardrail._internal.files import write_atomic
from smoothguard_guardrail.errors import ConfigurationError, InputError, MissingDependencyError
from smoothguard_guardrail.evaluation.datasets.llava_bench import LlavaBench
from smoothguard_guardrail.evaluation.datasets.mm_safetybench import MMSafetyBench, Variant
from smoothguard_guardrail.evaluation.datasets.mm_scenarios import SCENARIO_SIZES, full_names
from smoothguard_guardrail.evaluation.datasets.pope import SPLITS, Pope
from smoothguard_guardrail.evaluation.datasets.rows import Row, by_key, file_in, read_json_object

if TYPE_CHECKING:
    from datasets import Dataset

_TEXT_ONLY = "Text_only"
# By variant: the dataset's split, and the field of its question in the original records.
_MM_SPLITS: dict[Variant, tuple[str, str]] = {
    "SD": ("SD", "Rephrased Question(SD)"),
    "TYPO": ("TYPO", "Rephrased Question"),
    "SD_TYPO": ("SD_TYPO", "Rephrased Question"),
    "text-only": (_TEXT_ONLY, "Question"),
    "universal": (_TEXT_ONLY, "Question"),
}
_COMMIT = re.compile(r"^hf://datasets/[^@]+@(?P<commit>[0-9a-f]{40})/")


def pope_from_hub(
    source: str | Path = "lmms-lab/POPE",
    *,
    images: Path | None,
    revision: str | None = None,
    splits: Sequence[str] = SPLITS,
    suffix: str = "",
    complete: bool = True,
) -> Pope:
    """Read POPE: `question_id`, `question`, `answer`, `image_source`, `image`, `category`, all splits in one.

    Args:
        source: A dataset of the hub, or a folder.
        images: Where images are written; existing files are kept. None: questions without images, enough to score
            existing answers.
        revision: The hub's commit, branch or tag; the notes of the scores name it.
        splits: As for `Pope.load`.
        suffix: As for `Pope.load`.
        complete: As for `Pope.load`.

    Raises:
        ConfigurationError: The dataset does not exist.
        InputError: A column, a row or an image is missing or wrong, or `images` has a different file of its name.
        MissingDependencyError: The package `datasets` is not installed.
    """
    columns = ("question_id", "question", "answer", "image_source", "image", "category")
    data = _open(source, "test", columns, revision=revision)
    rows: dict[str, list[Row]] = {split: [] for split in splits}
    for row in _rows(data, f"{source}, test"):
        if row.text("category") not in rows:
            continue
        name = _with_suffix(row.text("image_source"))
        _write_once(images, name, row)
        values = {"question_id": row.key("question_id"), "text": row.text("question"), "label": row.text("answer")}
        rows[row.text("category")].append(Row(where=row.where, values=values | {"image": name}))
    found = Pope.from_rows(rows, images=images, suffix=suffix, complete=complete)
    return replace(found, notes=(*found.notes, _origin(source, revision, data)))


def llava_bench_from_hub(
    source: str | Path = "lmms-lab/llava-bench-in-the-wild",
    *,
    images: Path | None,
    rule: Path,
    revision: str | None = None,
    complete: bool = True,
) -> LlavaBench:
    """Read LLaVA-Bench: `question_id`, `question`, `image`, `caption`, `gpt_answer`, `category`, `image_id`.

    An image's several captions are one text in this dataset.

    Args:
        source: A dataset of the hub, or a folder.
        images: As for `pope_from_hub`.
        rule: LLaVA's `llava/eval/table/rule.json`, which the dataset lacks.
        revision: As for `pope_from_hub`.
        complete: As for `LlavaBench.load`.

    Raises:
        ConfigurationError: The dataset does not exist.
        InputError: A column, a row or an image is missing or wrong, or `images` has a different file of its name.
        MissingDependencyError: The package `datasets` is not installed.
    """
    columns = ("question_id", "question", "image", "caption", "gpt_answer", "category", "image_id")
    data = _open(source, "train", columns, revision=revision)
    questions: list[Row] = []
    references: list[Row] = []
    contexts: dict[str, Row] = {}
    for row in _rows(data, f"{source}, train"):
        key, name, caption = row.key("question_id"), _with_suffix(row.text("image_id")), row.text("caption")
        _write_once(images, name, row)
        context = contexts.setdefault(name, Row(where=row.where, values={"image": name, "caption": caption}))
        if context.text("caption") != caption:
            raise InputError(f"{row.where}: the image {name} had another caption before")
        values = {"question_id": key, "image": name, "text": row.text("question"), "category": row.text("category")}
        questions.append(Row(where=row.where, values=values))
        references.append(Row(where=row.where, values={"question_id": key, "text": row.text("gpt_answer")}))
    found = LlavaBench.from_rows(
        questions,
        contexts=contexts.values(),
        references=references,
        rules=read_json_object(rule),
        images=images,
        complete=complete,
    )
    return replace(found, notes=(*found.notes, _origin(source, revision, data)))


def mm_safetybench_from_hub(
    source: str | Path = "PKU-Alignment/MM-SafetyBench",
    *,
    images: Path | None,
    variant: Variant = "SD_TYPO",
    scenarios: Sequence[str] | None = None,
    universal_image: Path | None = None,
    revision: str | None = None,
    complete: bool = True,
) -> MMSafetyBench:
    """Read MM-SafetyBench: `id`, `question`, `image`; a configuration per scenario, a split per variant.

    Args:
        source: A dataset of the hub, or a folder with one folder per scenario, named as there: `Fraud`.
        images: As for `pope_from_hub`; written to `<scenario>/<variant>/<id>.jpg` in any format.
        variant: As for `MMSafetyBench.load`.
        scenarios: As for `MMSafetyBench.load`.
        universal_image: As for `MMSafetyBench.load`.
        revision: As for `pope_from_hub`.
        complete: As for `MMSafetyBench.load`.

    Raises:
        ConfigurationError: The dataset or a scenario does not exist, or `universal_image` does not fit the variant.
        InputError: A column, a row or an image is missing or wrong, or `images` has a different file of its name.
        MissingDependencyError: The package `datasets` is not installed.
    """
    if variant not in _MM_SPLITS:
        raise ConfigurationError(f"{variant!r} is not a variant: {', '.join(_MM_SPLITS)}")
    split, field = _MM_SPLITS[variant]
    records: dict[str, dict[str, Row]] = {}
    origins: dict[str, None] = {}
    for scenario in SCENARIO_SIZES if scenarios is None else full_names(scenarios):
        plain = _mm_rows(source, scenario, _TEXT_ONLY, revision, origins)
        records[scenario] = {}
        for key, row in (
            plain if split == _TEXT_ONLY else _mm_rows(source, scenario, split, revision, origins)
        ).items():
            if key not in plain:
                raise InputError(f"{row.where}: {_TEXT_ONLY} has no question {key}")
            values = {"Question": plain[key].text("question"), field: row.text("question")}
            records[scenario][key] = Row(where=row.where, values=values)
            if split != _TEXT_ONLY:
                _write_once(images, f"{scenario}/{variant}/{key}.jpg", row)
    found = MMSafetyBench.from_records(
        records,
        variant=variant,
        universal_image=universal_image,
        images=images,
        with_media=images is not None,
        complete=complete,
    )
    return replace(found, notes=(*found.notes, *origins))


def _mm_rows(
    source: str | Path, scenario: str, split: str, revision: str | None, origins: dict[str, None]
) -> dict[str, Row]:
    name = scenario.partition("-")[2]  # 01-Illegal_Activitiy is Illegal_Activitiy in the dataset
    data = _open(source, split, ("id", "question", "image"), config=name, revision=revision)
    origins[_origin(source, revision, data)] = None
    return by_key(_rows(data, f"{source}, {name}, {split}"), "id")


def _open(
    source: str | Path, split: str, columns: Sequence[str], *, revision: str | None, config: str | None = None
) -> Dataset:
    """Return a dataset with undecoded images."""
    try:
        import datasets
    except ImportError as error:
        raise MissingDependencyError("datasets", "eval") from error
    where = ", ".join(part for part in (str(source), config, split) if part)
    try:
        if Path(source).is_dir():
            data = _open_folder(Path(source), split, config)
        else:
            data = datasets.load_dataset(str(source), config, split=split, revision=revision)
    except ConfigurationError:
        raise
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise ConfigurationError(f"{where} cannot be read: {error}") from error
    absent = [column for column in columns if column not in data.column_names]
    if absent:
        raise InputError(f"{where}: no column {', '.join(absent)}; there is {', '.join(data.column_names)}")
    if isinstance(data.features["image"], datasets.Image):
        data = data.cast_column("image", datasets.Image(decode=False))
    return data


def _open_folder(folder: Path, split: str, config: str | None) -> Dataset:
    import datasets
    from pyarrow import parquet

    saved = folder / config if config else folder
    if (saved / "dataset_dict.json").exists():
        found = datasets.load_from_disk(str(saved))
        if split not in found:
            raise ConfigurationError(f"{saved} has no split {split}; there is {', '.join(found)}")
        return found[split]
    if (saved / "state.json").exists():
        return datasets.load_from_disk(str(saved))
    shard = re.compile(rf"{re.escape(split)}(-\d+-of-\d+)?\.parquet")  # SD must not match SD_TYPO
    paths = sorted(path for path in folder.rglob("*.parquet") if shard.fullmatch(path.name))
    paths = [path for path in paths if config is None or config in path.relative_to(folder).parts]
    if not paths or len({path.parent for path in paths}) > 1:
        raise ConfigurationError(
            f"{saved} must contain the output of `Dataset.save_to_disk`, or {split}.parquet in one of its folders"
        )
    return datasets.Dataset(datasets.table.InMemoryTable(parquet.read_table(paths)))


def _rows(data: Dataset, where: str) -> Iterator[Row]:
    for number, values in enumerate(data, 1):
        yield Row(where=f"{where}, row {number}", values=values)


def _write_once(folder: Path | None, name: str, row: Row) -> None:
    """Write a row's image unless the file exists or there is no folder."""
    if folder is None:
        return
    path, data = file_in(folder, name, where=row.where), _bytes(row)
    if path.is_file():
        if path.read_bytes() != data:
            raise InputError(f"{row.where}: {path} is another image; give another folder as `images`")
        return
    write_atomic(path, data)


def _bytes(row: Row) -> bytes:
    image = row.values["image"]
    if isinstance(image, Mapping) and isinstance(data := image.get("bytes"), bytes):
        return data
    if isinstance(image, Mapping) and image.get("path") and Path(image["path"]).is_file():
        return Path(image["path"]).read_bytes()
    raise InputError(f"{row.where}: `image` must be an image, got {type(image).__name__}")


def _with_suffix(name: str) -> str:
    return name if Path(name).suffix else f"{name}.jpg"


def _origin(source: str | Path, revision: str | None, data: Any) -> str:
    commits = {match["commit"] for url in data.info.download_checksums or () if (match := _COMMIT.match(url))}
    name = Path(source).name if Path(source).is_dir() else str(source)
    return f"read from the dataset {name}, revision {', '.join(sorted(commits)) or revision or 'unknown'}"
