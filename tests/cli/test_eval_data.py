"""`smoothguard eval run` on what `--data` and its kin may name: datasets, one picture for all, recordings."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from langchain_core.messages import BaseMessage
from typer.testing import CliRunner

from smoothguard_guardrail.cli import app, loading
from smoothguard_guardrail.cli.eval import data as eval_data
from smoothguard_guardrail.cli.eval.data import DataOptions, find_source, load_benchmark
from smoothguard_guardrail.errors import ConfigurationError, InputError
from smoothguard_guardrail.evaluation import shared
from smoothguard_guardrail.evaluation.datasets.pope import SINGLE_WORD
from smoothguard_guardrail.models import ChatTransformersMultimodal
from smoothguard_guardrail.testing import ScriptedChatModel, WordEmbeddings
from tests.cli.test_eval_run import asked, command, read, settings
from tests.evaluation.benchmark_files import (
    COMPA,
    SAFETY,
    write_compa,
    write_llava_bench,
    write_picture,
    write_pope,
    write_safety,
)
from tests.models import tiny

datasets = pytest.importorskip("datasets")

from tests.evaluation import hub_datasets  # noqa: E402 - it needs the package

__all__ = ["asked"]
SPLITS = ("--part", "random", "--part", "adversarial")
CLEAN = ("--arms", "clean")


@pytest.fixture(autouse=True)
def _no_progress_bars() -> Iterable[None]:
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def run(runner: CliRunner, benchmark: str, data: str | Path, out: Path, *more: str, model: str = "fake:model") -> None:
    result = runner.invoke(app, command(benchmark, Path(data), out, *more, model=model))
    assert result.exit_code == 0, result.output


def refused(runner: CliRunner, benchmark: str, data: str | Path, out: Path, *more: str) -> str:
    result = runner.invoke(app, command(benchmark, Path(data), out, *more))
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    (message,) = result.stderr.splitlines()
    return message


def question(messages: list[BaseMessage]) -> str:
    content: Any = messages[-1].content
    return str(next(block["text"] for block in content if block["type"] == "text"))


def test_a_folder_of_a_dataset_scores_as_the_original_files(
    runner: CliRunner, asked: ScriptedChatModel, tmp_path: Path
) -> None:
    original = write_pope(tmp_path / "coco")
    hub_datasets.write_pictures(original / "val2014", ("a.jpg", "b.jpg"))
    run(runner, "pope", original, tmp_path / "one", *SPLITS)
    dataset = hub_datasets.pope_dataset(tmp_path / "POPE", hub_datasets.pope_records())
    run(runner, "pope", dataset, tmp_path / "two", *SPLITS)
    one, two = read(tmp_path / "one"), read(tmp_path / "two")
    assert [(arm.name, arm.scores.rows, arm.scores.outcomes) for arm in two.arms] == [
        (arm.name, arm.scores.rows, arm.scores.outcomes) for arm in one.arms
    ]
    assert two.arms[0].scores.rows[-1].num_items == 8
    written = tmp_path / "two" / "images" / "a.jpg"
    assert written.read_bytes() == (original / "val2014" / "a.jpg").read_bytes()
    assert {path.partition("-")[0] for path in two.files} == {"data", "dataset_info.json", "state.json"}
    assert "read from the dataset POPE, revision unknown" in two.arms[0].scores.notes


def test_pictures_of_a_dataset_may_go_elsewhere(runner: CliRunner, asked: ScriptedChatModel, tmp_path: Path) -> None:
    dataset = hub_datasets.pope_dataset(tmp_path / "POPE", hub_datasets.pope_records(), hub_datasets.as_repository)
    given = ("--part", "random", *settings(tmp_path, f"images = '{tmp_path / 'kept'}'"), *CLEAN)
    run(runner, "pope", dataset, tmp_path / "out", *given)
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["a.jpg", "b.jpg"]
    assert not (tmp_path / "out" / "images").exists()
    message = refused(runner, "pope", dataset, tmp_path / "out", "--part", "populr")
    assert "no question of the split 'populr'" in message


def test_the_hub_is_asked_for_the_name_and_the_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = hub_datasets.pope_dataset(tmp_path / "POPE", hub_datasets.pope_records())
    wanted: list[Any] = []

    def load_dataset(name: str, config: str | None, *, split: str, revision: str | None) -> Any:
        wanted.append((name, config, split, revision))
        return datasets.load_from_disk(str(folder))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    options = DataOptions(parts=("random",), partial=True)
    for data in ("hub:lmms-lab/POPE@v1", "hub:lmms-lab/POPE"):
        bench = load_benchmark("pope", data, options, image_folder=tmp_path / "images")
        assert len(bench.items) == 4
        assert eval_data.fingerprints("pope", data, options) == {}
    assert wanted == [("lmms-lab/POPE", None, "test", "v1"), ("lmms-lab/POPE", None, "test", None)]


def test_llava_bench_as_a_dataset_needs_the_rule(
    runner: CliRunner, asked: ScriptedChatModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(loading, "load_model", lambda spec: ScriptedChatModel(script=["8 6\nFine."]))
    records, judge = hub_datasets.llava_records(), ("--judge", "chat:fake:judge", *CLEAN)
    dataset = hub_datasets.as_saved_splits(tmp_path / "wild", hub_datasets.LLAVA_FEATURES, records, "train")
    assert "give it as rule" in refused(runner, "llava-bench", dataset, tmp_path / "out", *judge)
    rule = write_llava_bench(tmp_path / "files") / "rule.json"
    run(runner, "llava-bench", dataset, tmp_path / "out", *judge, *settings(tmp_path, f"rule = '{rule}'"))
    record = read(tmp_path / "out")
    assert record.arms[0].scores.rows[-1].metrics["relative score"] == pytest.approx(75.0)
    assert "rule.json" in record.files


def test_mm_safetybench_as_a_dataset(runner: CliRunner, asked: ScriptedChatModel, tmp_path: Path) -> None:
    dataset = hub_datasets.safety_repository(tmp_path / "hub")
    run(runner, "mm-safetybench", dataset, tmp_path / "out", "--part", "01", "--judge", "refusal", *CLEAN)
    assert len(asked.received) == 2
    assert (tmp_path / "out" / "images" / "01-Illegal_Activitiy" / "SD_TYPO" / "1.jpg").is_file()
    assert any(path.endswith("SD_TYPO.parquet") for path in read(tmp_path / "out").files)


def test_folders_are_recognised_by_their_files(tmp_path: Path) -> None:
    write_pope(tmp_path / "coco")
    assert find_source("pope", str(tmp_path / "coco")).is_dataset is False
    write_safety(tmp_path / "safety", {"01-Illegal_Activitiy": SAFETY["01-Illegal_Activitiy"]})
    assert find_source("mm-safetybench", str(tmp_path / "safety")).is_dataset is False
    hub_datasets.pope_dataset(tmp_path / "saved", hub_datasets.pope_records(), hub_datasets.as_saved_splits)
    assert find_source("pope", str(tmp_path / "saved")).is_dataset is True
    hub_datasets.safety_saved(tmp_path / "scenarios")
    assert find_source("mm-safetybench", str(tmp_path / "scenarios")).is_dataset is True
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"pope: none of its original files \(coco_pope_\*\.json\), and no dataset"):
        find_source("pope", str(tmp_path / "empty"))
    with pytest.raises(InputError, match=r"test\*\.parquet"):
        find_source("pope", str(tmp_path / "scenarios"))
    with pytest.raises(InputError, match="folder does not exist"):
        find_source("pope", str(tmp_path / "missing"))
    write_pope(tmp_path / "saved")
    with pytest.raises(ConfigurationError, match=r"original files .* and a dataset .*one of them"):
        find_source("pope", str(tmp_path / "saved"))


def test_compa_order_cannot_be_read_as_a_dataset(tmp_path: Path) -> None:
    hub_datasets.pope_dataset(tmp_path / "saved", hub_datasets.pope_records())
    for data in ("hub:somebody/CompA", str(tmp_path / "saved")):
        with pytest.raises(ConfigurationError, match="compa-order cannot be read as a dataset"):
            find_source("compa-order", data)


@pytest.mark.parametrize("data", ["hub:", "hub:@main", "hub:lmms-lab/POPE@"])
def test_names_on_the_hub_have_to_be_whole(data: str) -> None:
    with pytest.raises(ConfigurationError, match="hub:NAME@REVISION"):
        find_source("pope", data)


def test_a_local_folder_is_not_read_as_a_hub_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lmms-lab" / "POPE").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="is a local folder"):
        find_source("pope", "hub:lmms-lab/POPE")


def test_one_picture_for_all_questions(runner: CliRunner, asked: ScriptedChatModel, tmp_path: Path) -> None:
    data, out, one = write_safety(tmp_path / "safety"), tmp_path / "out", write_picture(tmp_path / "one.png")
    more = ("--judge", "refusal", *settings(tmp_path, "variant = 'universal'"))
    assert "universal_image" in refused(runner, "mm-safetybench", data, out, *more)
    settings(tmp_path, f"variant = 'universal'\nuniversal_image = '{tmp_path / 'none.png'}'")
    assert "does not exist" in refused(runner, "mm-safetybench", data, out, *more)
    settings(tmp_path, f"universal_image = '{one}'")
    assert "variant universal" in refused(runner, "mm-safetybench", data, out, *more)
    settings(tmp_path, f"variant = 'universal'\nuniversal_image = '{one}'")
    run(runner, "mm-safetybench", data, out, *more, "--arms", "clean,guarded")
    blocks: list[Any] = [messages[-1].content for messages in asked.received[:5]]
    assert {block[0]["type"] for block in blocks} == {"image"}
    assert len({block[0]["base64"] for block in blocks}) == 1
    assert {question(messages) for messages in asked.received} == {
        str(record["Question"]) for records in SAFETY.values() for record in records.values()
    }
    assert "one.png" in read(out).files
    assert read(out).arms[1].verdicts == {"passed": 5}


@pytest.mark.parametrize(("suffix", "end"), [("single-word", SINGLE_WORD), (" Yes or no?", " Yes or no?")])
def test_a_suffix_ends_every_question(
    runner: CliRunner, asked: ScriptedChatModel, tmp_path: Path, suffix: str, end: str
) -> None:
    data = write_pope(tmp_path / "coco")
    hub_datasets.write_pictures(data / "val2014", ("a.jpg", "b.jpg"))
    run(runner, "pope", data, tmp_path / "out", *SPLITS, *CLEAN, *settings(tmp_path, f"suffix = '{suffix}'"))
    assert len(asked.received) == 7  # two splits share a question about a picture, which is asked once
    assert all(question(messages).endswith(f"?{end}") for messages in asked.received)


@pytest.mark.parametrize(
    ("text", "words"), [("suffix = 'single-word'", "is for pope"), ("rule = 'rule.json'", "is for llava-bench")]
)
def test_settings_of_other_benchmarks_are_refused(
    runner: CliRunner, asked: ScriptedChatModel, tmp_path: Path, text: str, words: str
) -> None:
    data = write_safety(tmp_path / "safety")
    assert words in refused(
        runner, "mm-safetybench", data, tmp_path / "out", *settings(tmp_path, text), "--judge", "refusal"
    )


def write_recordings(folder: Path) -> Path:
    write_compa(folder / "CompA_order_benchmark.csv")
    (folder / "CompA_order_files").mkdir()
    time = np.arange(4000) / 16000
    for number, file in enumerate(name for row in COMPA for name in row[3:] if name != "-"):
        tone = np.sin(2 * np.pi * 220 * (number + 1) * time) / 2
        soundfile.write(folder / "CompA_order_files" / file, tone, 16000)
    return folder


def test_recordings_are_asked_about_bare_and_guarded(
    runner: CliRunner, asked: ScriptedChatModel, tmp_path: Path
) -> None:
    asked.script = ["The caption is 1."]
    data, out = write_recordings(tmp_path / "compa"), tmp_path / "out"
    run(runner, "compa-order", data, out)
    record = read(out)
    assert [(arm.name, arm.num_errors) for arm in record.arms] == [("clean", 0), ("noise", 0), ("guarded", 0)]
    assert record.arms[2].verdicts == {"passed": 2}
    assert set(record.files) == {"CompA_order_benchmark.csv"}
    heard: list[Any] = [messages[-1].content[0] for messages in asked.received]
    assert {block["type"] for block in heard} == {"audio"}
    clean, noisy = heard[:2], heard[2:]
    assert not {block["base64"] for block in clean} & {block["base64"] for block in noisy[:2]}
    assert "expected a local model" in refused(runner, "compa-order", data, out, "--attack-epsilon", "0.005")
    assert "2 of 2 attacked files are missing" in refused(runner, "compa-order", data, out, "--attacked", str(tmp_path))


def test_a_local_audio_model_answers_compa_order(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shared, "_embeddings", WordEmbeddings())
    folder = tiny.build_qwen2_audio(tmp_path / "qwen2-audio")
    model = ChatTransformersMultimodal.from_pretrained(str(folder), device="cpu", max_new_tokens=4)
    monkeypatch.setattr(shared, "_load", {f"hf:{folder}": model}.__getitem__)
    data, out = write_recordings(tmp_path / "compa"), tmp_path / "out"
    run(runner, "compa-order", data, out, "--arms", "clean,guarded", model=f"hf:{folder}")
    record = read(out)
    assert [(arm.name, arm.num_errors) for arm in record.arms] == [("clean", 0), ("guarded", 0)]
    assert sum(record.arms[1].verdicts.values()) == 2
    assert "skipped" not in record.arms[1].verdicts
    assert record.arms[1].mean_calls > 1
    assert record.model.weights_sha256 is not None
