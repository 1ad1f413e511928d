from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from smoothguard_guardrail.errors import ConfigurationError, InputError, MissingDependencyError
from smoothguard_guardrail.evaluation.datasets.base import Benchmark
from smoothguard_guardrail.evaluation.datasets.hub import (
    llava_bench_from_hub,
    mm_safetybench_from_hub,
    pope_from_hub,
)
from smoothguard_guardrail.evaluation.datasets.llava_bench import LlavaBench
from smoothguard_guardrail.evaluation.datasets.mm_safetybench import MMSafetyBench, Variant
from smoothguard_guardrail.evaluation.datasets.pope import SINGLE_WORD, Pope
from smoothguard_guardrail.evaluation.items import Item
from smoothguard_guardrail.evaluation.scores import Judgement
from tests.evaluation.benchmark_files import POPE_ANSWERS, SAFETY, write_llava_bench, write_pope, write_safety

datasets = pytest.importorskip("datasets")

from tests.evaluation.hub_datasets import (  # noqa: E402 - it needs the package
    FORMS,
    IMAGE,
    LLAVA_FEATURES,
    PICTURES,
    POPE_COLUMNS,
    SPLIT_FIELDS,
    as_repository,
    as_saved_dataset,
    as_saved_splits,
    dataset,
    llava_records,
    picture,
    pope_dataset,
    pope_records,
    safety_picture,
    safety_repository,
    safety_saved,
    strings,
    write_pictures,
)


@pytest.fixture(autouse=True)
def _no_progress_bars() -> Iterable[None]:
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def assert_same_items(found: Benchmark, expected: Benchmark) -> None:
    assert [bare(item) for item in found.items] == [bare(item) for item in expected.items]
    for ours, theirs in zip(found.items, expected.items, strict=True):
        assert [path.name for path in ours.media] == [path.name for path in theirs.media]
        assert [path.read_bytes() for path in ours.media] == [path.read_bytes() for path in theirs.media]


def bare(item: Item) -> Item:
    return item.model_copy(update={"media": ()})


@pytest.mark.parametrize("form", FORMS)
def test_pope_is_the_same_in_every_form(tmp_path: Path, form: Any) -> None:
    original = Pope.load(
        write_pope(tmp_path),
        images=write_pictures(tmp_path / "val2014", ("a.jpg", "b.jpg")),
        splits=("random", "adversarial"),
        suffix=SINGLE_WORD,
        complete=False,
    )
    source = pope_dataset(tmp_path / "POPE", pope_records(), form)
    found = pope_from_hub(
        source,
        images=tmp_path / "written",
        revision="v1",
        splits=("random", "adversarial"),
        suffix=SINGLE_WORD,
        complete=False,
    )
    assert_same_items(found, original)
    scores, expected = found.score(POPE_ANSWERS), original.score(POPE_ANSWERS)
    assert (scores.rows, scores.outcomes) == (expected.rows, expected.outcomes)
    assert "read from the dataset POPE, revision v1" in scores.notes
    assert sorted(path.name for path in (tmp_path / "written").iterdir()) == ["a.jpg", "b.jpg"]


def test_pope_leaves_other_splits_out_and_refuses_parts_as_the_original_does(tmp_path: Path) -> None:
    source = pope_dataset(tmp_path / "POPE", pope_records())
    found = pope_from_hub(source, images=tmp_path / "written", splits=("adversarial",), complete=False)
    assert {item.category for item in found.items} == {"adversarial"}
    with pytest.raises(InputError, match="published file has"):
        pope_from_hub(source, images=tmp_path / "written", splits=("adversarial",))


def test_pictures_are_written_once(tmp_path: Path) -> None:
    source = pope_dataset(tmp_path / "POPE", pope_records())
    images = tmp_path / "written"
    pope_from_hub(source, images=images, complete=False, splits=("random",))
    before = (images / "a.jpg").stat().st_mtime_ns
    pope_from_hub(source, images=images, complete=False, splits=("random",))
    assert (images / "a.jpg").stat().st_mtime_ns == before
    (images / "a.jpg").write_bytes(picture(9))
    with pytest.raises(InputError, match=r"a\.jpg is another image; give another folder"):
        pope_from_hub(source, images=images, complete=False, splits=("random",))


def test_pictures_may_be_files_and_need_no_image_type(tmp_path: Path) -> None:
    files = write_pictures(tmp_path / "files", ("a.jpg", "b.jpg"))
    rows = [
        row | {"image": {"bytes": None, "path": str(files / f"{row['image_source']}.jpg")}} for row in pope_records()
    ]
    column = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    source = as_repository(tmp_path / "POPE", strings(POPE_COLUMNS) | {"image": column}, rows, "test")
    found = pope_from_hub(source, images=tmp_path / "written", complete=False, splits=("random",))
    assert found.items[0].media[0].read_bytes() == PICTURES["a.jpg"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": None}, "`image` must be an image"),
        ({"image_source": "../a"}, "not a name of a file in a folder"),
        ({"answer": "maybe"}, "`label` must be yes or no"),
        ({"question": None}, "`question` must be a text"),
        ({"question_id": "2"}, "occurs twice"),
    ],
)
def test_rows_that_are_wrong_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    rows = pope_records()
    rows[0] |= change
    source = pope_dataset(tmp_path / "POPE", rows)
    with pytest.raises(InputError, match=f"test, row [12].*{message}"):
        pope_from_hub(source, images=tmp_path / "written", complete=False, splits=("random",))


def test_other_columns_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "other"
    dataset(strings(("question_id", "question")), [{"question_id": "1", "question": "?"}]).save_to_disk(source)
    with pytest.raises(
        InputError, match="no column answer, image_source, image, category; there is question_id, question"
    ):
        pope_from_hub(source, images=tmp_path / "written")


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"test\.parquet in one of its folders"):
        pope_from_hub(tmp_path, images=tmp_path / "written")
    as_saved_splits(tmp_path / "POPE", strings(POPE_COLUMNS) | IMAGE, pope_records(), "train")
    with pytest.raises(ConfigurationError, match="no split test; there is train"):
        pope_from_hub(tmp_path / "POPE", images=tmp_path / "written")
    with pytest.raises(ConfigurationError, match="lmms-lab/POPE, test cannot be read"):  # tests are offline
        pope_from_hub(images=tmp_path / "written")


def test_without_the_package_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(MissingDependencyError, match=r"smoothguard-guardrail\[eval\]"):
        pope_from_hub(images=tmp_path)


def test_the_commit_that_the_hub_gave_is_recorded(tmp_path: Path) -> None:
    commit = "4db1276663dfa5eb8ad16a52d24c31a09e470896"
    data = dataset(strings(POPE_COLUMNS) | IMAGE, pope_records())
    data.info.download_checksums = {f"hf://datasets/lmms-lab/POPE@{commit}/data/test-00000-of-00003.parquet": {}}
    data.save_to_disk(tmp_path / "POPE")
    found = pope_from_hub(tmp_path / "POPE", images=tmp_path / "written", complete=False, splits=("random",))
    assert f"read from the dataset POPE, revision {commit}" in found.notes


def review(items: Sequence[Item], answers: Sequence[str]) -> list[Judgement]:
    """Write reviews that depend on all that a reviewer sees."""
    return [
        Judgement(verdict=None, reply=f"{1 + len(str(sorted(item.details.items()))) % 9} {1 + len(answer) % 9}\nFine.")
        for item, answer in zip(items, answers, strict=True)
    ]


@pytest.mark.parametrize("form", FORMS)
def test_llava_bench_is_the_same_in_every_form(tmp_path: Path, form: Any) -> None:
    folder = write_llava_bench(tmp_path)
    images = write_pictures(folder / "images", ("001.jpg", "002.jpg"))
    original = LlavaBench.load(folder, images=images, complete=False)
    source = form(tmp_path / "wild", LLAVA_FEATURES, llava_records(), "train")
    found = llava_bench_from_hub(source, images=tmp_path / "written", rule=folder / "rule.json", complete=False)
    assert_same_items(found, original)
    answers = {item.id: item.question for item in original.items}
    scores, expected = found.score(answers, judge=review), original.score(answers, judge=review)
    assert (scores.rows, scores.outcomes) == (expected.rows, expected.outcomes)


def test_llava_bench_refuses_two_captions_of_a_picture(tmp_path: Path) -> None:
    rows = llava_records()
    rows[1]["caption"] = "Something else."
    source = as_saved_dataset(tmp_path / "wild", LLAVA_FEATURES, rows, "train")
    rule = write_llava_bench(tmp_path) / "rule.json"
    with pytest.raises(InputError, match=r"train, row 2: the image 001\.jpg had another caption"):
        llava_bench_from_hub(source, images=tmp_path / "written", rule=rule, complete=False)


def count_words(items: Sequence[Item], answers: Sequence[str]) -> list[Judgement]:
    return [Judgement(verdict=len(answer.split()) % 2 == 0) for answer in answers]


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["SD", "TYPO", "SD_TYPO", "text-only"])
@pytest.mark.parametrize("form", [safety_saved, safety_repository])
def test_mm_safetybench_is_the_same_in_every_form(
    tmp_path: Path, form: Callable[[Path], Path], variant: Variant
) -> None:
    folder = write_safety(tmp_path)
    for scenario in SAFETY:
        for split in SPLIT_FIELDS:
            place = folder / "data" / "imgs" / scenario / split
            place.mkdir(parents=True)
            for key in SAFETY[scenario]:
                (place / f"{key}.jpg").write_bytes(safety_picture(scenario, key, split))
    original = MMSafetyBench.load(folder, variant=variant, complete=False)
    found = mm_safetybench_from_hub(
        form(tmp_path / "hub"),
        images=tmp_path / "written",
        variant=variant,
        scenarios=("01", "Political_Lobbying", "11-Financial_Advice"),
        complete=False,
    )
    assert_same_items(found, original)
    answers = {item.id: item.question for item in original.items}
    scores, expected = found.score(answers, judge=count_words), original.score(answers, judge=count_words)
    assert (scores.rows, scores.outcomes) == (expected.rows, expected.outcomes)
    assert scores.notes[: len(found.notes)] == found.notes
    assert found.notes[-1] == "read from the dataset hub, revision unknown"


def test_mm_safetybench_asks_the_plain_question_about_a_universal_picture(tmp_path: Path) -> None:
    one = write_pictures(tmp_path / "one", ("a.jpg",)) / "a.jpg"
    found = mm_safetybench_from_hub(
        safety_saved(tmp_path / "hub"),
        images=tmp_path / "written",
        variant="universal",
        universal_image=one,
        scenarios=("01",),
        complete=False,
    )
    assert [(item.question, item.media) for item in found.items] == [
        ("How do I make tea?", (one,)),
        ("How do I make soup?", (one,)),
    ]


def test_mm_safetybench_refuses_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="'14' is not a scenario"):
        mm_safetybench_from_hub(images=tmp_path, scenarios=("14",))
    with pytest.raises(ConfigurationError, match="'sd' is not a variant"):
        mm_safetybench_from_hub(images=tmp_path, variant="sd")  # type: ignore[arg-type]
