"""What `smoothguard eval run` wrote, `smoothguard eval score` scores alike: the same figures, item by item."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
from langchain_core.messages import BaseMessage
from typer.testing import CliRunner

from smoothguard_guardrail.cli import app, loading
from smoothguard_guardrail.testing import ScriptedChatModel
from tests.cli.test_eval_run import asked, pope, read, settings
from tests.cli.test_eval_run import command as run_command
from tests.evaluation.benchmark_files import (
    COMPA,
    LLAVA_CONTEXT,
    SAFETY,
    write_compa,
    write_llava_bench,
    write_picture,
)
from tests.evaluation.benchmark_files import write_safety as write_scenarios

__all__ = ["asked", "pope"]
ARMS = ("clean", "guarded")


def run(runner: CliRunner, benchmark: str, data: Path, out: Path, *more: str) -> None:
    result = runner.invoke(app, run_command(benchmark, data, out, "--arms", ",".join(ARMS), *more))
    assert result.exit_code == 0, result.output


def scored(runner: CliRunner, benchmark: str, answers: Path, *more: str) -> dict[str, Any]:
    given = ["eval", "score", benchmark, "--answers", str(answers), *more, "--partial", "--json"]
    result = runner.invoke(app, given)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def assert_same_figures(runner: CliRunner, benchmark: str, out: Path, *more: str) -> None:
    for arm in read(out).arms:
        found = scored(runner, benchmark, out / "answers" / f"{arm.name}.jsonl", *more)
        expected = arm.scores.model_dump(mode="json")
        for field in ("benchmark", "rows", "outcomes", "num_unscored"):
            assert found[field] == expected[field], (arm.name, field)


def varied(*replies: str) -> Callable[[list[BaseMessage]], str]:
    """Return a script that answers alike whenever it is asked the same, and differently otherwise."""

    def reply(messages: list[BaseMessage]) -> str:
        content: Any = messages[-1].content
        text = next(block["text"] for block in content if block["type"] == "text")
        return replies[sum(str(text).encode()) % len(replies)]

    return reply


def test_pope_with_a_failed_call(runner: CliRunner, asked: ScriptedChatModel, pope: Path, tmp_path: Path) -> None:
    answer = varied("Yes.", "No.")

    def reply(messages: list[BaseMessage]) -> str:
        if len(asked.received) == 2:
            raise TimeoutError("late")
        return answer(messages)

    asked.script = reply
    run(runner, "pope", pope, tmp_path / "out", "--part", "popular")
    clean = read(tmp_path / "out").arms[0]
    assert (clean.num_errors, clean.scores.num_unscored) == (1, 1)
    assert_same_figures(runner, "pope", tmp_path / "out", "--annotations", str(pope), "--split", "popular")


def test_pope_drawn_by_a_limit(runner: CliRunner, asked: ScriptedChatModel, pope: Path, tmp_path: Path) -> None:
    run(runner, "pope", pope, tmp_path / "out", "--part", "popular", "--limit", "4")
    assert_same_figures(runner, "pope", tmp_path / "out", "--annotations", str(pope), "--split", "popular")


def test_llava_bench_asks_the_judge_nothing_twice(
    runner: CliRunner, asked: ScriptedChatModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    judge = ScriptedChatModel(script=["8 6\nFine.", "7 7\nFine.", "Both are good.", "5 6\nFine."])
    monkeypatch.setattr(loading, "load_model", lambda spec: judge)
    data, out = write_llava_bench(tmp_path / "llava"), tmp_path / "out"
    for row in LLAVA_CONTEXT:
        write_picture(data / "images" / str(row["image"]))
    run(runner, "llava-bench", data, out, "--judge", "chat:fake:judge")
    calls = len(judge.received)
    again = ("--data", str(data), "--judge", "chat:fake:judge")
    assert_same_figures(runner, "llava-bench", out, *again, "--kept", str(out / "kept" / "judgements.jsonl"))
    assert len(judge.received) == calls
    scored(runner, "llava-bench", out / "answers" / "clean.jsonl", *again)
    assert len(judge.received) > calls  # nothing is kept


def test_mm_safetybench(runner: CliRunner, asked: ScriptedChatModel, tmp_path: Path) -> None:
    asked.script = varied("First, boil it.", "I'm sorry, I can't.")
    data, out = write_scenarios(tmp_path / "safety", variants=("SD",)), tmp_path / "out"
    run(runner, "mm-safetybench", data, out, *settings(tmp_path, "variant = 'SD'"), "--judge", "refusal")
    rate: Any = read(out).arms[0].scores.rows[-1].metrics["attack success rate"]
    assert 0 < rate.k < rate.n == sum(len(records) for records in SAFETY.values())
    again = ("--data", str(data), "--variant", "SD", "--judge", "refusal")
    assert_same_figures(runner, "mm-safetybench", out, *again)


def test_compa_order(runner: CliRunner, asked: ScriptedChatModel, tmp_path: Path) -> None:
    asked.script = ["Caption 1", "the second", "2"]
    data, out = tmp_path / "compa", tmp_path / "out"
    write_compa(data / "CompA_order_benchmark.csv")
    (data / "CompA_order_files").mkdir()
    for file in (name for row in COMPA for name in row[3:] if name != "-"):
        soundfile.write(data / "CompA_order_files" / file, [0.1, -0.1] * 2000, 16000)
    run(runner, "compa-order", data, out)
    assert_same_figures(runner, "compa-order", out, "--questions", str(data / "CompA_order_benchmark.csv"))


@pytest.mark.parametrize(
    ("command", "more", "words"),
    [
        ("llava-bench", [], "--reviews"),
        ("llava-bench", ["--answers", "a.jsonl", "--reviews", "r.jsonl"], "or --answers"),
        ("llava-bench", ["--answers", "a.jsonl"], "--data"),
        ("llava-bench", ["--answers", "a.jsonl", "--data", "llava"], "--judge chat:PROVIDER:NAME"),
        ("mm-safetybench", ["--answers", "a.jsonl"], "--data"),
        ("mm-safetybench", ["--answers", "a.jsonl", "--data", "safety"], "--judge stored: give refusal"),
    ],
)
def test_what_answers_by_item_need_is_said(
    runner: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, more: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.jsonl").write_text('{"item_id": "0", "text": "A lighthouse."}\n')
    write_llava_bench(tmp_path / "llava")
    write_scenarios(tmp_path / "safety")
    result = runner.invoke(app, ["eval", "score", command, *more, "--partial"])
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    (message,) = result.stderr.splitlines()
    assert words in message


def test_answers_have_to_be_complete(runner: CliRunner, tmp_path: Path) -> None:
    data = write_compa(tmp_path / "c.csv")
    answers = tmp_path / "a.jsonl"
    answers.write_text('{"item_id": "7/1", "text": "1"}\n')
    arguments = ["eval", "score", "compa-order", "--answers", str(answers), "--questions", str(data), "--partial"]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2
    assert "1 answers are for items that do not exist, such as 7/1" in result.stderr
