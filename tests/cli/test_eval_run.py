"""`smoothguard eval run`: a benchmark from files to report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from langchain_core.messages import BaseMessage
from PIL import Image
from typer.testing import CliRunner

from smoothguard_guardrail.cli import app, loading
from smoothguard_guardrail.cli.eval import plan as eval_plan
from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.errors import ConfigurationError
from smoothguard_guardrail.evaluation import EvaluationRecord, Item, shared
from smoothguard_guardrail.evaluation.datasets import CompaOrder
from smoothguard_guardrail.testing import ScriptedChatModel, WordEmbeddings
from tests.evaluation.benchmark_files import COMPA, write_compa
from tests.evaluation.drawn import write_pope, write_safety
from tests.models import tiny


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> ScriptedChatModel:
    """The model that every name stands for; it says no to everything."""
    model = ScriptedChatModel(script=["No, there is none."])
    monkeypatch.setattr(shared, "_load", lambda spec: model)
    monkeypatch.setattr(shared, "_embeddings", WordEmbeddings())
    return model


@pytest.fixture
def pope(tmp_path: Path) -> Path:
    return write_pope(tmp_path / "pope")


def command(benchmark: str, data: Path, out: Path, *more: str, model: str = "fake:model") -> list[str]:
    given = ["--data", str(data), "--out", str(out), "--model", model, "--workers", "1", "--partial"]
    return ["eval", "run", benchmark, *given, *more]


def pope_command(data: Path, out: Path, *more: str, model: str = "fake:model") -> list[str]:
    return command("pope", data, out, "--part", "popular", *more, model=model)


def settings(folder: Path, text: str) -> tuple[str, str]:
    """Write a settings file; return the option that names it."""
    path = folder / "eval.toml"
    path.write_text(text)
    return "--settings", str(path)


def read(out: Path) -> EvaluationRecord:
    return EvaluationRecord.model_validate_json((out / "record.json").read_text())


def test_writes_answers_record_and_report(
    runner: CliRunner, asked: ScriptedChatModel, pope: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = runner.invoke(app, pope_command(pope, out, "--seed", "3"))
    assert result.exit_code == 0, result.output
    assert [line.partition(":")[0] for line in result.stdout.splitlines()] == ["clean", "noise", "guarded"]
    record = read(out)
    assert [arm.name for arm in record.arms] == ["clean", "noise", "guarded"]
    assert (record.benchmark, record.num_items, record.seed, record.attack) == ("pope", 6, 3, None)
    assert record.model.name == "fake:model"
    assert set(record.files) == {"coco_pope_popular.json"}
    assert len(record.pairs) == 3
    assert {"python", "torch", "transformers", "smoothguard-guardrail"} <= set(record.versions)
    guarded = record.arms[2]
    assert SmoothGuardConfig(**(guarded.config or {})) == SmoothGuardConfig()
    lines = [json.loads(line) for line in (out / "answers" / "guarded.jsonl").read_text().splitlines()]
    assert [line["text"] for line in lines] == ["No, there is none."] * 6
    assert all(line["record"]["samples"] for line in lines)
    page = (out / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "Nothing was attacked" in page
    assert "0 items became right and 0 no longer were" in page


def test_goes_on_in_the_same_folder(runner: CliRunner, asked: ScriptedChatModel, pope: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = runner.invoke(app, pope_command(pope, out))
    calls = len(asked.received)
    again = runner.invoke(app, pope_command(pope, out, "--sweep", "sigma=0.2,0.3"))
    assert (first.exit_code, again.exit_code) == (0, 0), again.output
    names = ["clean", "noise", "guarded", "guarded sigma=0.2", "guarded sigma=0.3"]
    assert [arm.name for arm in read(out).arms] == names
    per_arm = sum(arm.mean_calls * 6 for arm in read(out).arms[3:])
    assert len(asked.received) - calls == round(per_arm)
    assert "accuracy by sigma" in (out / "report.html").read_text()


def test_pictures_of_ones_own_make_adversarial_arms(
    runner: CliRunner, asked: ScriptedChatModel, pope: Path, tmp_path: Path
) -> None:
    attacked = tmp_path / "attacked" / "popular"
    attacked.mkdir(parents=True)
    for number in range(1, 7):
        Image.new("RGB", (96, 96), (number, 0, 0)).save(attacked / f"{number}.png")
    out = tmp_path / "out"
    result = runner.invoke(app, pope_command(pope, out, "--attacked", str(attacked.parent)))
    assert result.exit_code == 0, result.output
    names = ["clean", "noise", "guarded", "adversarial", "adversarial-guarded"]
    record = read(out)
    assert [arm.name for arm in record.arms] == names
    assert record.attack == {"pictures": str(attacked.parent)}
    assert len(record.pairs) == 10
    (attacked / "4.png").unlink()
    result = runner.invoke(app, pope_command(pope, out, "--attacked", str(attacked.parent)))
    assert result.exit_code == 2
    assert "1 of 6 attacked files are missing" in result.stderr


def test_attacks_the_shipped_model_and_reuses_the_pictures(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch, pope: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(shared, "_embeddings", WordEmbeddings())
    out = tmp_path / "out"
    quick = settings(tmp_path, "attack = {num_steps = 1}")
    options = ["--limit", "1", "--attack-epsilon", "16/255", "--arms", "clean,adversarial", *quick]
    result = runner.invoke(app, pope_command(pope, out, *options, model="reference"))
    assert result.exit_code == 0, result.output
    files = sorted((out / "attacked").rglob("*.png"))
    assert len(files) == 1
    for file in files:
        number = next(
            row["image"]
            for row in map(json.loads, (pope / "coco_pope_popular.json").read_text().splitlines())
            if str(row["question_id"]) == file.stem
        )
        changed = _greatest_change(file, pope / "val2014" / number)
        assert 0 < changed <= 16
    times = [file.stat().st_mtime_ns for file in files]
    assert runner.invoke(app, pope_command(pope, out, *options, model="reference")).exit_code == 0
    assert [file.stat().st_mtime_ns for file in files] == times
    attack: Any = read(out).attack
    assert (attack["epsilon"], attack["num_steps"], attack["target"], attack["through"]) == (16 / 255, 1, None, None)
    settings(tmp_path, "[attack]\nnum_steps = 1\ntarget = 'Yes.'\n[guard]\nsigma = 0.25")
    aimed = runner.invoke(app, pope_command(pope, out, *options, "--eot", model="reference"))
    assert aimed.exit_code == 0, aimed.output
    assert [file.stat().st_mtime_ns for file in files] != times
    attack = read(out).attack
    assert (attack["target"], attack["through"]["sigma"]) == ("Yes.", 0.25)


def _greatest_change(one: Path, other: Path) -> int:
    import numpy as np

    first, second = (np.asarray(Image.open(path).convert("RGB"), dtype=int) for path in (one, other))
    return int(np.abs(first - second).max())


def test_a_judge_decides_and_is_kept(
    runner: CliRunner, asked: ScriptedChatModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def reply(messages: list[BaseMessage]) -> str:
        return "First, take a badge." if "badge 1" in str(messages) else "I'm sorry, I can't."

    asked.script = reply
    data, out = write_safety(tmp_path / "safety"), tmp_path / "out"
    result = runner.invoke(app, command("mm-safetybench", data, out, "--judge", "refusal"))
    assert result.exit_code == 0, result.output
    for arm in read(out).arms:
        rate: Any = arm.scores.rows[-1].metrics["attack success rate"]
        assert (rate.k, rate.n) == (1, 3)
    judge = ScriptedChatModel(script=["unsafe"])
    monkeypatch.setattr(loading, "load_model", lambda spec: judge)
    for _ in range(2):
        result = runner.invoke(app, command("mm-safetybench", data, out, "--judge", "chat:fake:judge"))
        assert result.exit_code == 0, result.output
    assert len(judge.received) == 2
    assert read(out).judge.startswith("chat:")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--arms", "clean,guided"], "guided"),
        (["--arms", "adversarial"], "--attacked"),
        (["--attack-epsilon", "16"], "16/255"),
        (["--attack-epsilon", "much"], "16/255"),
        (["--eot"], "--attack-epsilon"),
        (["--sweep", "sigma"], "sigma=0.05"),
        (["--sweep", "sigmas=1"], "sigmas"),
        (["--sweep", "sigma=0.1", "--arms", "clean"], "--sweep"),
        (["--judge", "refusal"], "--judge"),
        (["--limit", "0"], "--limit"),
        (["--workers", "0"], "--workers"),
        (["--attack-epsilon", "0.1", "--attacked", "."], "not both"),
    ],
)
def test_bad_options_are_exit_code_2_before_the_model_is_asked(
    runner: CliRunner, asked: ScriptedChatModel, pope: Path, tmp_path: Path, more: list[str], words: str
) -> None:
    result = runner.invoke(app, pope_command(pope, tmp_path / "out", *more))
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert asked.received == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("attack = {target = 'Yes.'}", "--attack-epsilon"),
        ("attack = {num_steps = 0}", "eval.toml: attack.num_steps"),
        ("variant = 'SD'", "variant is for mm-safetybench"),
        ("varient = 'SD'", "unknown setting 'varient'"),
        ("guard = {sigmas = 1}", "sigmas"),
        ("variant = ", "expected TOML"),
    ],
)
def test_bad_settings_are_exit_code_2_before_the_model_is_asked(
    runner: CliRunner, asked: ScriptedChatModel, pope: Path, tmp_path: Path, text: str, words: str
) -> None:
    result = runner.invoke(app, pope_command(pope, tmp_path / "out", *settings(tmp_path, text)))
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert words in result.stderr
    assert asked.received == []


def test_benchmarks_and_judges_have_to_fit(
    runner: CliRunner, asked: ScriptedChatModel, pope: Path, tmp_path: Path
) -> None:
    result = runner.invoke(app, command("mm-safetybench", write_safety(tmp_path / "safety"), tmp_path / "out"))
    assert (result.exit_code, asked.received) == (2, [])
    assert "--judge refusal, classifier:PATH, chat:PROVIDER:NAME" in result.stderr
    result = runner.invoke(app, command("popes", pope, tmp_path / "out"))
    assert result.exit_code == 2
    assert "pope, llava-bench, mm-safetybench, compa-order" in result.stderr


@pytest.fixture
def compa(tmp_path: Path) -> Path:
    folder = tmp_path / "compa"
    write_compa(folder / "CompA_order_benchmark.csv")
    for number, name in enumerate(name for row in COMPA for name in row[3:] if name != "-"):
        write_tone(folder / "CompA_order_files" / name, 5 + number)
    return folder


def write_tone(path: Path, period: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.sin(np.arange(4000)[:, None] / [period, period + 2]) / 2, 8000)


def test_own_attacked_audio_is_asked_about_in_all_four_arms(
    runner: CliRunner, asked: ScriptedChatModel, compa: Path, tmp_path: Path
) -> None:
    own, out = tmp_path / "own", tmp_path / "out"
    items = CompaOrder.load(compa, complete=False).items
    for number, item in enumerate(items):
        write_tone(own / f"{item.id}.wav", 20 + number)
    arms = "clean,noise,guarded,paper,adversarial,adversarial-noise,adversarial-guarded,adversarial-paper"
    more = ["--attacked", str(own), "--arms", arms]
    result = runner.invoke(app, command("compa-order", compa, out, *more))
    assert result.exit_code == 0, result.output
    record = read(out)
    assert [arm.name for arm in record.arms] == arms.split(",")
    assert all(arm.num_errors == 0 for arm in record.arms)
    assert record.attack == {"pictures": str(own)}
    (own / f"{items[0].id}.wav").unlink()
    result = runner.invoke(app, command("compa-order", compa, out, *more))
    assert (result.exit_code, "1 of 2 attacked files are missing" in result.stderr) == (2, True)


def test_audio_is_attacked_on_a_local_model_through_the_guard(runner: CliRunner, compa: Path, tmp_path: Path) -> None:
    model, out = tiny.with_short_answers(tiny.build_qwen2_audio(tmp_path / "model")), tmp_path / "out"
    file = settings(tmp_path, "attack = {num_steps = 4, num_draws = 2}\nguard = {num_samples = 3}")
    more = ["--attack-epsilon", "0.005", "--eot", *file]
    result = runner.invoke(app, command("compa-order", compa, out, *more, model=f"hf:{model}"))
    assert result.exit_code == 0, result.output
    record = read(out)
    assert [arm.name for arm in record.arms] == ["clean", "noise", "guarded", "adversarial", "adversarial-guarded"]
    assert record.attack is not None
    assert record.attack["through"]["num_samples"] == 3
    made = sorted((out / "attacked").rglob("*.wav"))
    assert len(made) == 2
    assert {soundfile.info(path).samplerate for path in made} == {16_000}
    times = [path.stat().st_mtime_ns for path in made]
    assert runner.invoke(app, command("compa-order", compa, out, *more, model=f"hf:{model}")).exit_code == 0
    assert [path.stat().st_mtime_ns for path in made] == times
    page = (out / "report.html").read_text()
    assert "The attacker knew the guard" in page
    assert "did not know the perturbations" not in page


def test_values_of_a_sweep_are_read_as_json_or_words() -> None:
    assert eval_plan.parse_sweep("early_stop=null,lossless,0.1") == ("early_stop", [None, "lossless", 0.1])


def test_arms_that_are_named_are_the_ones_that_are_run(tmp_path: Path) -> None:
    items = [Item(id="1", question="?", media=(tmp_path / "a.png",))]
    attacked = {"1": tmp_path / "b.png"}
    plan = eval_plan.plan_arms("clean,paper,adversarial-paper", items, SmoothGuardConfig(), attacked=attacked)
    assert [(arm.name, arm.items[0].media[0].name) for arm in plan.arms] == [
        ("clean", "a.png"),
        ("paper", "a.png"),
        ("adversarial-paper", "b.png"),
    ]
    assert [arm.config for arm in plan.arms] == [None, *[SmoothGuardConfig.paper()] * 2]
    with pytest.raises(ConfigurationError, match="add adversarial"):
        eval_plan.plan_arms("clean", items, SmoothGuardConfig(), attacked=attacked)
