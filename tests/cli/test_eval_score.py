"""Answer files that others made, scored from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from smoothguard_guardrail.cli import app, loading
from smoothguard_guardrail.evaluation import Answer
from smoothguard_guardrail.testing import ScriptedChatModel
from tests.evaluation.benchmark_files import (
    POPE,
    POPE_ANSWERS,
    SAFETY,
    llava_answers,
    llava_questions,
    safety_record,
    write_compa,
    write_json,
    write_lines,
    write_pope,
)


def run(runner: CliRunner, *arguments: str | Path) -> dict[str, Any]:
    result = runner.invoke(app, ["eval", "score", *map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def refused(runner: CliRunner, *arguments: str | Path) -> str:
    result = runner.invoke(app, ["eval", "score", *map(str, arguments)])
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    (message,) = result.stderr.splitlines()
    return message


def overall(scores: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = scores["rows"][-1]
    assert row["group"] == "all"
    metrics: dict[str, Any] = row["metrics"]
    return metrics


@pytest.fixture
def pope(tmp_path: Path) -> list[str]:
    write_pope(tmp_path / "coco")
    answers = write_lines(tmp_path / "answers.jsonl", llava_answers())
    questions = write_lines(tmp_path / "llava_pope_test.jsonl", llava_questions())
    return ["--answers", str(answers), "--questions", str(questions), "--annotations", str(tmp_path / "coco")]


BOTH = ("--split", "random", "--split", "adversarial")


def test_pope(runner: CliRunner, pope: list[str]) -> None:
    found = run(runner, "pope", *pope, *BOTH, "--partial")
    assert (found["benchmark"], [row["group"] for row in found["rows"]]) == ("pope", ["random", "adversarial", "all"])
    assert overall(found)["accuracy"] == {"k": 5, "n": 8}
    assert overall(found)["f1"] == pytest.approx(2 / 3)
    assert found["outcomes"]["adversarial/3"] is False


def test_pope_as_a_table(runner: CliRunner, pope: list[str]) -> None:
    result = runner.invoke(app, ["eval", "score", "pope", *pope, *BOTH, "--partial"])
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "random 4 accuracy 3/4 0.7500 0.301-0.954" in lines
    assert "f1 0.8000" in lines
    assert "all 8 accuracy 5/8 0.6250 0.306-0.863" in lines
    assert "- 1 answers do not say yes and count as yes, as upstream does" in lines


def test_pope_with_upstreams_rows(runner: CliRunner, tmp_path: Path, pope: list[str]) -> None:
    rows = [
        {"question": row["text"], "answer": POPE_ANSWERS[f"adversarial/{row['question_id']}"]}
        for row in POPE["adversarial"]
    ]
    arguments = ["--answers", write_lines(tmp_path / "upstream.json", rows), "--annotations", tmp_path / "coco"]
    found = run(runner, "pope", *arguments, "--split", "adversarial", "--partial")
    assert overall(found)["accuracy"] == {"k": 2, "n": 4}
    assert "choose it" in refused(runner, "pope", *arguments, *BOTH, "--partial")


def test_pope_with_answers_by_item(runner: CliRunner, tmp_path: Path, pope: list[str]) -> None:
    answers = [Answer(item_id=key, text=text).model_dump(mode="json") for key, text in POPE_ANSWERS.items()]
    path = write_lines(tmp_path / "clean.jsonl", answers)
    arguments = ["--answers", path, "--annotations", tmp_path / "coco", *BOTH, "--partial"]
    assert overall(run(runner, "pope", *arguments))["accuracy"] == {"k": 5, "n": 8}
    failed = Answer(item_id="random/4", error="TimeoutError: late").model_dump(mode="json")
    write_lines(path, [failed if answer["item_id"] == "random/4" else answer for answer in answers])
    found = run(runner, "pope", *arguments)  # a failed call is no yes
    assert overall(found)["accuracy"] == {"k": 5, "n": 7}
    assert "7 of 8 questions" in found["notes"]
    write_lines(path, [answers[0], answers[0]])
    assert "row 2: the answer to random/1 occurs twice" in refused(runner, "pope", *arguments)


def test_pope_is_complete_or_says_so(runner: CliRunner, tmp_path: Path, pope: list[str]) -> None:
    assert "random: 4 rows, and the published file has 2910 or 3000" in refused(runner, "pope", *pope, *BOTH)
    write_lines(tmp_path / "answers.jsonl", llava_answers()[:3])
    found = run(runner, "pope", *pope, *BOTH, "--partial")
    assert overall(found)["accuracy"]["n"] == 3
    assert "3 of 8 questions" in found["notes"]


def test_pope_without_the_question_file_is_refused(runner: CliRunner, pope: list[str]) -> None:
    assert "give LLaVA's question file" in refused(runner, "pope", *pope[:2], *pope[4:], *BOTH, "--partial")


SIZES = {"complex": 28, "conv": 17, "detail": 15}
QUESTIONS = [
    {"image": "001.jpg", "text": "?", "category": category, "question_id": number}
    for number, category in enumerate([name for name, size in SIZES.items() for _ in range(size)])
]
ALL_REVIEWS = [
    {"question_id": row["question_id"], "category": f"llava_bench_{row['category']}", "content": "8 6", "tuple": [8, 6]}
    for row in QUESTIONS
]


def test_llava_bench(runner: CliRunner, tmp_path: Path) -> None:
    failed = [{**review, "tuple": [-1, -1]} if review["question_id"] == 7 else review for review in ALL_REVIEWS]
    reviews = write_lines(tmp_path / "reviews.jsonl", failed)
    found = run(runner, "llava-bench", "--reviews", reviews)
    assert {row["group"]: row["num_items"] for row in found["rows"]} == {**SIZES, "all": 60}
    assert overall(found)["relative score"] == pytest.approx(75.0)
    assert (overall(found)["unscored"], found["num_unscored"]) == (1, 1)
    assert any("not compared with the benchmark's questions" in note for note in found["notes"])
    questions = write_lines(tmp_path / "questions.jsonl", QUESTIONS)
    assert run(runner, "llava-bench", "--reviews", reviews, "--questions", questions)["rows"] == found["rows"]
    result = runner.invoke(app, ["eval", "score", "llava-bench", "--reviews", str(reviews)])
    assert "all 60 relative score 75.0000" in [" ".join(line.split()) for line in result.stdout.splitlines()]


def test_llava_bench_with_missing_reviews(runner: CliRunner, tmp_path: Path) -> None:
    arguments = ["--reviews", write_lines(tmp_path / "reviews.jsonl", ALL_REVIEWS[:45])]
    assert "reviews.jsonl: {'complex': 28, 'conv': 17} by category" in refused(runner, "llava-bench", *arguments)
    arguments += ["--questions", write_lines(tmp_path / "questions.jsonl", QUESTIONS)]
    found = run(runner, "llava-bench", *arguments, "--partial")
    assert overall(found)["relative score"] == pytest.approx(75.0)
    assert "45 of 60 questions" in found["notes"]


def test_llava_bench_with_reviews_of_other_questions(runner: CliRunner, tmp_path: Path) -> None:
    moved = [{**review, "question_id": int(str(review["question_id"])) + 1} for review in ALL_REVIEWS]
    arguments = ["--reviews", write_lines(tmp_path / "reviews.jsonl", moved)]
    arguments += ["--questions", write_lines(tmp_path / "questions.jsonl", QUESTIONS)]
    assert "1 of 60 items have no answer, such as 0" in refused(runner, "llava-bench", *arguments)


def answered(folder: Path, *, verdict: str | None) -> Path:
    for scenario, records in SAFETY.items():
        found = {
            key: {**record, "ans": {"m": {"text": f"I cannot {key}." if key == "0" else "Do it."}}}
            for key, record in records.items()
        }
        if verdict is not None and scenario != "11-Financial_Advice":
            for record in found.values():
                record["ans"]["m"]["is_safe(gpt)"] = verdict
        write_json(folder / f"{scenario}.json", found)
    return folder


def test_mm_safetybench_with_stored_verdicts(runner: CliRunner, tmp_path: Path) -> None:
    found = run(runner, "mm-safetybench", "--answers", answered(tmp_path, verdict="unsafe"), "--partial")
    assert overall(found) == {"attack success rate": {"k": 3, "n": 3}, "unjudged": 2}
    assert found["num_unscored"] == 2
    assert "answers of m, judge stored" in found["notes"]
    assert not any("variant" in note for note in found["notes"])


def test_mm_safetybench_with_the_refusal_judge(runner: CliRunner, tmp_path: Path) -> None:
    arguments = ["--answers", answered(tmp_path, verdict=None), "--partial"]
    assert "name a judge, such as --judge refusal" in refused(runner, "mm-safetybench", *arguments)
    found = run(runner, "mm-safetybench", *arguments, "--judge", "refusal")
    assert overall(found) == {"attack success rate": {"k": 2, "n": 5}, "unjudged": 0}
    only = run(runner, "mm-safetybench", *arguments, "--judge", "refusal", "--scenario", "08")
    assert overall(only)["attack success rate"] == {"k": 0, "n": 1}


def test_mm_safetybench_with_a_chat_model_as_judge(
    runner: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ScriptedChatModel(script=["unsafe"])
    monkeypatch.setattr(loading, "load_model", {"openai:gpt-4o": model}.__getitem__)
    arguments = ["--answers", answered(tmp_path, verdict=None), "--partial", "--judge", "chat:openai:gpt-4o"]
    found = run(runner, "mm-safetybench", *arguments)
    assert overall(found)["attack success rate"] == {"k": 5, "n": 5}
    assert "answers of m, judge chat:openai:gpt-4o" in found["notes"]


@pytest.mark.parametrize("judge", ["refuse", "chat", "chat:", "classifier:no/such/folder", "openai:gpt-4o"])
def test_mm_safetybench_refuses_other_judges(runner: CliRunner, tmp_path: Path, judge: str) -> None:
    arguments = ["--answers", answered(tmp_path, verdict="safe"), "--partial", "--judge", judge]
    assert judge.removeprefix("classifier:") in refused(runner, "mm-safetybench", *arguments)


def test_mm_safetybench_refuses_what_is_missing(runner: CliRunner, tmp_path: Path) -> None:
    folder = answered(tmp_path, verdict="safe")
    assert "02-HateSpeech.json cannot be read" in refused(runner, "mm-safetybench", "--answers", folder)
    message = refused(runner, "mm-safetybench", "--answers", folder, "--scenario", "01")
    assert "01-Illegal_Activitiy: 2 records, and the published file has 97" in message
    write_json(folder / "06-Fraud.json", {"0": {**safety_record("tea"), "ans": {"other": {"text": "t"}}}})
    message = refused(runner, "mm-safetybench", "--answers", folder, "--partial")
    assert "several models, choose one: m, other" in message
    arguments = ["--answers", folder, "--partial", "--model", "other"]
    assert "no answer of other has a stored verdict" in refused(runner, "mm-safetybench", *arguments)
    found = run(runner, "mm-safetybench", *arguments, "--judge", "refusal")
    assert overall(found)["attack success rate"] == {"k": 1, "n": 1}


def test_compa_order(runner: CliRunner, tmp_path: Path) -> None:
    rows = [{"row": 0, "file": "t0.wav", "text": "3"}, {"row": 1, "file": "p1.wav", "text": "3"}]
    arguments = ["--answers", write_lines(tmp_path / "a.jsonl", rows), "--questions", write_compa(tmp_path / "c.csv")]
    assert "2 rows, and the published file has 400" in refused(runner, "compa-order", *arguments)
    found = run(runner, "compa-order", *arguments, "--partial")
    assert overall(found) == {"accuracy": {"k": 1, "n": 2}, "invalid": {"k": 1, "n": 2}}
    write_lines(tmp_path / "a.jsonl", [{"item_id": "0/3", "text": "3"}, {"item_id": "1/1", "text": "3"}])
    assert run(runner, "compa-order", *arguments, "--partial") == found


@pytest.mark.parametrize("command", ["pope", "llava-bench", "mm-safetybench", "compa-order"])
def test_missing_files_are_told_in_one_line(runner: CliRunner, command: str) -> None:
    paths = {
        "pope": ["--answers", "no.jsonl", "--annotations", "no"],
        "llava-bench": ["--reviews", "no.jsonl"],
        "mm-safetybench": ["--answers", "no"],
        "compa-order": ["--answers", "no.jsonl", "--questions", "no.csv"],
    }
    assert "cannot be read" in refused(runner, command, *paths[command])


def test_names_in_files_do_not_write_all_over_the_terminal(runner: CliRunner, tmp_path: Path) -> None:
    lines = [{"question_id": "1", "category": "\x1b[2Jconv\x07", "content": "8 6", "tuple": [8, 6]}]
    reviews = write_lines(tmp_path / "reviews.jsonl", lines)
    result = runner.invoke(app, ["eval", "score", "llava-bench", "--reviews", str(reviews), "--partial"])
    assert result.exit_code == 0, result.output
    assert "\\x1b[2Jconv" in result.stdout
    assert not set("\x1b\x07") & set(result.output)
    message = refused(runner, "llava-bench", "--reviews", reviews, "--questions", tmp_path / "\x1b[31m.jsonl")
    assert "\x1b" not in message
