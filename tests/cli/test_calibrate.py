from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from smoothguard_guardrail import SmoothGuardConfig
from smoothguard_guardrail.cli import app
from smoothguard_guardrail.cli.calibrate import view
from smoothguard_guardrail.evaluation import shared
from smoothguard_guardrail.evaluation.calibration import Calibration, Limits, Measured, Sweep, Unguarded, choose
from smoothguard_guardrail.evaluation.statistics import Rate, mcnemar
from smoothguard_guardrail.models.reference.questions import secret_questions, target_answer
from smoothguard_guardrail.models.reference.scenes import draw, scenes
from smoothguard_guardrail.testing import ScriptedChatModel, WordEmbeddings
from tests.models import tiny

SMALL = ["--sigma", "0.1,0.3", "--num-samples", "3,9"]


@pytest.fixture(autouse=True)
def no_embedder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "default_embedder", WordEmbeddings)


@pytest.fixture
def data(picture: Path) -> Path:
    path = picture.with_name("rows.jsonl")
    rows = [
        {"image": picture.name, "question": "What is it?", "answer": "a grey square"},
        {"image": picture.name, "question": "What is the code?", "target": "The code is 7391."},
    ]
    return write_rows(path, rows)


def write_rows(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def run(runner: CliRunner, *arguments: object) -> Any:
    return runner.invoke(app, ["calibrate", *map(str, arguments)])


@pytest.mark.slow
def test_a_remote_model_gets_a_guard_whose_robustness_is_not_measured(
    runner: CliRunner, data: Path, tmp_path: Path, scripted: ScriptedChatModel
) -> None:
    out = tmp_path / "out"
    arguments = ["--model", "openai:gpt-4o", "--data", data, "--out", out, *SMALL, "--workers", 1]
    result = run(runner, *arguments)
    assert result.exit_code == 0, result.stderr
    assert "Robustness: not measured" in " ".join(result.stdout.split())  # the lines are wrapped
    assert "assumption" in result.stdout
    assert "attacks need a local model" in result.stderr
    found = Calibration.model_validate_json((out / "calibration.json").read_bytes())
    assert found.chosen is not None
    assert found.chosen.config.sigma == 0.3
    assert [each.config.num_samples for each in found.candidates] == [3, 3]
    assert found.environment["model"]["name"] == "openai:gpt-4o"  # type: ignore[index, call-overload]
    config = SmoothGuardConfig(**json.loads((out / "guard.json").read_text()))
    assert config == found.guard
    assert "not measured" in (out / "report.html").read_text()
    asked = len(scripted.received)
    assert run(runner, *arguments, "--json").stdout.strip() == (out / "calibration.json").read_text().strip()
    assert len(scripted.received) == asked


@pytest.mark.slow
def test_the_guard_that_was_found_is_used_by_ask(
    runner: CliRunner, data: Path, picture: Path, tmp_path: Path, scripted: ScriptedChatModel
) -> None:
    out = tmp_path / "out"
    run(runner, "--model", "openai:gpt-4o", "--data", data, "--out", out, *SMALL, "--workers", 1)
    guard = ["--config", str(out / "guard.json")]
    record = json.loads(runner.invoke(app, ["ask", str(picture), "What is it?", *guard, "--json"]).stdout)
    assert (record["sigma"], record["num_calls"] <= 3) == (0.3, True)
    result = runner.invoke(app, ["ask", str(picture), "What is it?", *guard, "--preset", "paper"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--preset" in result.stderr


def test_no_candidate_within_the_limits_is_exit_code_4(
    runner: CliRunner, data: Path, tmp_path: Path, scripted: ScriptedChatModel
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "guard.json").write_text("{}")
    scripted.script = ["A grey square.", "A cat."] + ["A cat."] * 100
    result = run(runner, "--model", "openai:gpt-4o", "--data", data, "--out", out, *SMALL, "--workers", 1)
    assert result.exit_code == 4
    assert "No candidate keeps the utility loss within 0.02" in result.stdout
    assert not (out / "guard.json").exists()
    assert (out / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--sigma", "much"], "--sigma"),
        (["--sigma", "0"], "sigma"),
        (["--epsilon", "2"], "--epsilon"),
        (["--max-calls", "2", "--num-samples", "3"], "more than 2 calls"),
    ],
)
def test_bad_options_are_exit_code_2(
    runner: CliRunner, data: Path, tmp_path: Path, scripted: ScriptedChatModel, arguments: list[str], word: str
) -> None:
    result = run(runner, "--data", data, "--out", tmp_path / "out", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert word in result.stderr
    assert scripted.received == []


def test_bad_data_are_exit_code_2(runner: CliRunner, data: Path, tmp_path: Path, scripted: ScriptedChatModel) -> None:
    result = run(runner, "--data", data, "--attacked", data, "--out", tmp_path / "out")
    assert (result.exit_code, "put them into the file of --data" in result.stderr) == (2, True)
    result = run(runner, "--data", tmp_path / "absent.jsonl", "--out", tmp_path / "out")
    assert (result.exit_code, "absent.jsonl" in result.stderr) == (2, True)


@pytest.mark.slow
def test_the_reference_model_is_attacked(runner: CliRunner, tmp_path: Path) -> None:
    (scene,) = scenes(1, split="heldout", seed=70, marks=())
    draw(scene).save(tmp_path / "scene.png")
    question, secret = secret_questions()[0]
    rows = [
        {"image": "scene.png", "question": question, "target": target_answer(secret)},
        {"image": "scene.png", "question": "How many objects are there?", "answer": "objects"},
    ]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    settings = tmp_path / "calibrate.toml"
    settings.write_text("match = 'contains'\n[attack]\nnum_steps = 8\nnum_draws = 2\n")
    options = ["--epsilon", "32/255", "--settings", settings, "--workers", 1]
    result = run(runner, "--data", data, "--out", tmp_path / "out", "--sigma", "0.3", "--num-samples", "3", *options)
    assert result.exit_code == 0, result.stderr
    assert "Robustness: adaptive" in " ".join(result.stdout.split())
    assert "attacking 1 rows through sigma 0.3" in result.stderr
    assert len(list((tmp_path / "out" / "attacked").glob("*.png"))) == 3
    guard = json.loads((tmp_path / "out" / "guard.json").read_text())
    assert 0 <= guard["vote"]["suspicion_threshold"] <= 1
    assert "Threshold of suspicion, set on 1 harmless rows" in result.stdout


@pytest.mark.slow
def test_audio_is_calibrated_and_attacked(runner: CliRunner, recording: Path, tmp_path: Path) -> None:
    model, out = f"hf:{tiny.with_short_answers(tiny.build_qwen2_audio(tmp_path / 'model'))}", tmp_path / "out"
    rows = [
        {"audio": recording.name, "question": "Tell me.", "target": "No."},
        {"audio": recording.name, "question": "What is it?", "answer": "sound"},
    ]
    data = write_rows(recording.with_name("rows.jsonl"), rows)
    settings = tmp_path / "calibrate.toml"
    settings.write_text("[sweep]\nsnr_db = [20, 0]\n[attack]\nnum_steps = 2\nnum_draws = 1\n")
    options = ["--model", model, "--data", data, "--out", out, "--settings", settings, "--workers", 1]
    result = run(runner, *options, "--num-samples", 3, "--max-utility-loss", 1)
    assert result.exit_code == 0, result.stderr
    assert "attacking 1 rows through SNR 0 dB" in result.stderr
    assert len(list((out / "attacked").glob("*.wav"))) == 4  # random signs, bare, and through two noises
    found = Calibration.model_validate_json((out / "calibration.json").read_bytes())
    assert found.kinds == ("audio",)
    assert found.environment["attack"]["epsilon"] == 0.005  # type: ignore[index, call-overload]
    assert {each.config.audio.snr_db for each in found.candidates} == {20, 0}
    assert "smoothguard ask AUDIO" in result.stdout
    result = run(runner, *options, "--sigma", "0.1")
    assert (result.exit_code, "sweep.snr_db" in result.stderr) == (2, True)


def test_images_and_audio_are_not_attacked_together(
    runner: CliRunner, picture: Path, recording: Path, tmp_path: Path
) -> None:
    rows = [
        {"audio": recording.name, "question": "Tell me.", "target": "No."},
        {"image": picture.name, "question": "Tell me.", "target": "No."},
    ]
    result = run(runner, "--data", write_rows(tmp_path / "rows.jsonl", rows), "--out", tmp_path / "out")
    assert (result.exit_code, "use one kind" in result.stderr) == (2, True)


# What is printed


def many(settings: dict[str, tuple[float, ...]], rows: int) -> Calibration:
    """A calibration in which all settings vary, measured on many rows."""
    candidates = tuple(config for group in Sweep(**settings).configs(SmoothGuardConfig()) for config in group)
    outcomes = {str(row): row % 7 > 0 for row in range(rows)}
    paired = mcnemar(dict.fromkeys(outcomes, True), outcomes)
    measured = [
        Measured(
            config=config,
            rates={"harmless": Rate(k=rows - 1, n=rows), "adaptive": Rate(k=min(index, rows), n=rows)},
            outcomes={"harmless": outcomes, "adaptive": outcomes},
            mean_calls=10.5,
            paired=paired,
        )
        for index, config in enumerate(candidates)
    ]
    limits = Limits(max_utility_loss=1, max_calls=12)
    choice = choose(measured, limits)
    alone = Unguarded(rates={"harmless": Rate(k=rows, n=rows)})
    return Calibration(limits=limits, candidates=tuple(measured), alone=alone, choice=choice)


ALL_SETTINGS: dict[str, tuple[float, ...]] = {
    "sigma": (0.05, 0.325),
    "max_shift": (5, 12),
    "low_pass": (0.0, 1.25),
    "num_samples": (5, 12),
    "refusal_share": (0.125, 0.35),
    "snr_db": (20, 12.5),
}


@pytest.mark.slow
@pytest.mark.parametrize("settings", [ALL_SETTINGS, {"sigma": (0.1, 0.2)}])
@pytest.mark.parametrize("rows", [3, 100_000])
def test_the_output_fits_80_columns_and_ends_with_the_next_command(
    settings: dict[str, tuple[float, ...]], rows: int
) -> None:
    found = many(settings, rows)
    printed = view.lines(found, Path("out"), "hf:some model")
    *sentences, ask, serve = printed
    assert max(map(len, sentences)) <= 80, max(sentences, key=len)
    marks = [line.split(" ")[0] for line in printed[1 : len(found.candidates) + 1]]
    assert sum("*" in mark for mark in marks) == 1
    assert "+" in "".join(marks)
    assert sentences[-2:] == ["wrote out/guard.json", "next:"]
    named = ["--model", "hf:some model", "--config", "out/guard.json"]
    assert shlex.split(ask) == ["smoothguard", "ask", "IMAGE", "QUESTION", *named]
    assert shlex.split(serve) == ["smoothguard", "serve", *named]
