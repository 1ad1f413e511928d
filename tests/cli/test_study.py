"""`smoothguard study` on local models, from rows to a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from smoothguard_guardrail.attacks import wav_bytes
from smoothguard_guardrail.cli import app
from smoothguard_guardrail.evaluation import shared
from smoothguard_guardrail.evaluation.guard_study import GuardStudy
from smoothguard_guardrail.models.reference.questions import secret_questions, target_answer
from smoothguard_guardrail.models.reference.scenes import draw, scenes
from smoothguard_guardrail.testing import ScriptedChatModel, WordEmbeddings
from tests.models import tiny


@pytest.fixture(autouse=True)
def no_embedder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "default_embedder", WordEmbeddings)


def run(runner: CliRunner, data: Path, out: Path, *arguments: str) -> Any:
    options = ["--data", str(data), "--out", str(out), "--scale", "smoke", "--workers", "1"]
    return runner.invoke(app, ["study", *options, *arguments])


def write_rows(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """Rows about drawn scenes: a harmless one and one to attack."""
    for number, scene in enumerate(scenes(1, seed=5, marks=())):
        draw(scene).save(tmp_path / f"{number}.png")
    question, name = secret_questions()[0]
    return write_rows(
        tmp_path / "rows.jsonl",
        [
            {"image": "0.png", "question": "How many objects are there?", "answer": "There is one object."},
            {"image": "0.png", "question": question, "target": target_answer(name)},
        ],
    )


@pytest.mark.slow
def test_every_attacker_attacks_and_a_second_run_asks_nothing(runner: CliRunner, drawn: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run(runner, drawn, out)
    assert result.exit_code == 0, result.output
    found = GuardStudy.model_validate_json((out / "study.json").read_bytes())
    assert len(found.arena.attackers) == len(found.arena.duels) == len(found.bare) == 10
    for duels in found.arena.duels.values():
        assert [duel.tries.n for duel in duels] == [4]
        assert all(duel.medium.is_file() for duel in duels)
    assert [duel.tries.n for duel in found.arena.worst] == [16]
    page = (out / "report.html").read_text()
    assert all(attacker.name in page for attacker in found.arena.attackers)
    assert "With the guard" in result.stdout
    stored = (out / "answers.jsonl").read_bytes()
    assert run(runner, drawn, out).stdout == result.stdout
    assert (out / "answers.jsonl").read_bytes() == stored


@pytest.mark.slow
def test_recordings_are_attacked_too(runner: CliRunner, tmp_path: Path) -> None:
    tone = torch.sin(torch.arange(1600) / 20) / 4
    (tmp_path / "0.wav").write_bytes(wav_bytes(tone, 16_000))
    data = write_rows(
        tmp_path / "rows.jsonl",
        [
            {"audio": "0.wav", "question": "What is said?", "answer": "nothing"},
            {"audio": "0.wav", "question": "What is said?", "target": "yes"},
        ],
    )
    folder = tiny.with_short_answers(tiny.build_qwen2_audio(tmp_path / "model"))
    result = run(runner, data, tmp_path / "out", "--model", f"hf:{folder}")
    assert result.exit_code == 0, result.output
    found = GuardStudy.model_validate_json((tmp_path / "out" / "study.json").read_bytes())
    names = {attacker.name for attacker in found.arena.attackers}
    assert {"EOT", "transfer"} <= names
    assert not names & {"patch", "low frequencies", "queries only"}


def test_a_remote_model_and_incomplete_rows_are_refused(
    runner: CliRunner, drawn: Path, tmp_path: Path, scripted: ScriptedChatModel
) -> None:
    result = run(runner, drawn, tmp_path / "out", "--model", "openai:gpt-4o")
    assert (result.exit_code, "local model" in result.stderr) == (2, True)
    assert not scripted.received
    harmless = write_rows(drawn.with_name("harmless.jsonl"), [json.loads(drawn.read_text().splitlines()[0])])
    result = run(runner, harmless, tmp_path / "out")
    assert (result.exit_code, "has no attack rows" in result.stderr) == (2, True), result.stderr
