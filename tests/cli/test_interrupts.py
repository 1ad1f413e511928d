"""Ctrl-C at any moment: what was done is kept, and the command that is printed goes on with it."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from smoothguard_guardrail.cli import app
from smoothguard_guardrail.models.reference.questions import secret_questions, target_answer
from smoothguard_guardrail.models.reference.scenes import draw, scenes
from tests.evaluation.drawn import write_pope

pytestmark = pytest.mark.slow
PYTHON = [sys.executable, "-m", "smoothguard_guardrail.cli"]
Seen = Callable[[], bool]


def heed_interrupts() -> None:
    """A command of a shell that runs these tests in the background would ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def interrupt(words: list[str], folder: Path, when: Seen | float) -> tuple[int, str]:
    """Run a command, send its group a SIGINT when something is seen or after seconds; return code and stderr."""
    with (
        (folder / "stderr").open("w") as log,
        subprocess.Popen(
            [*PYTHON, *words],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env=os.environ | {"TTY_COMPATIBLE": "1", "TERM": "xterm"},  # shows progress, as in a terminal
            start_new_session=True,
            preexec_fn=heed_interrupts,
        ) as process,
    ):
        deadline = time.monotonic() + 120
        if isinstance(when, float):
            time.sleep(when)
        else:
            while not when() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=60)
    return process.returncode, (folder / "stderr").read_text()


def command_of(stderr: str) -> list[str]:
    """Return the command that goes on, without the program's name."""
    program, *words = shlex.split(stderr.strip().splitlines()[-1])
    assert program == "smoothguard"
    return words


def check_interrupted(code: int, stderr: str, folder: Path) -> None:
    assert code == 130, stderr
    assert "Traceback" not in stderr
    assert "interrupted; what was done is kept" in stderr
    assert not list(folder.rglob("*.partial"))
    for path in (folder / "out").rglob("*.json"):
        json.loads(path.read_text())
    for _ in range(100):  # an ended process may take a moment to be gone
        if not working_in(folder):
            break
        time.sleep(0.1)
    assert not working_in(folder)


def working_in(folder: Path) -> list[str]:
    """Return the command lines of processes that still work in the folder."""
    alive = []
    for process in psutil.process_iter(["cwd", "status", "cmdline"]):  # None where this user may not see it
        found = process.info
        if found["cwd"] == str(folder.resolve()) and found["status"] != psutil.STATUS_ZOMBIE:
            alive.append(" ".join(found["cmdline"] or ()))
    return alive


def finish(words: list[str], folder: Path) -> str:
    """Run a command to its end, in this process, which has imported everything that it needs."""
    with chdir(folder):
        done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, scene in enumerate(scenes(4, split="heldout", seed=70, marks=())):
        draw(scene).save(tmp_path / f"{number}.png")
    question, secret = secret_questions()[0]
    attack = {"question": question, "target": target_answer(secret)}
    rows = [{"image": f"{number}.png", **attack} for number in (0, 1)]
    rows += [{"image": f"{n}.png", "question": "How many objects are there?", "answer": "objects"} for n in (2, 3)]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (tmp_path / "calibrate.toml").write_text("match = 'contains'\n[attack]\nnum_steps = 6\nnum_draws = 2\n")
    return tmp_path


def has_workers(folder: Path) -> Seen:
    return lambda: len(working_in(folder)) > 1


def has_lines(path: Path, count: int) -> Seen:
    return lambda: path.exists() and len(path.read_text().splitlines()) >= count


# attack


def attack_words(folder: Path, steps: int = 2000) -> list[str]:
    question, secret = secret_questions()[0]
    options = ["--target", target_answer(secret), "--num-steps", str(steps), "--device", "cpu", "--seed", "3"]
    return ["attack", "0.png", question, *options, "--out", "adv one.png"]


def test_an_attack_goes_on_at_the_step_where_it_was_stopped(folder: Path) -> None:
    from smoothguard_guardrail.attacks import checkpoint

    steps = 40
    code, stderr = interrupt(attack_words(folder, steps), folder, attack_has_begun(folder))
    check_interrupted(code, stderr, folder)
    (kept,) = folder.glob("*.checkpoint.pt")
    assert steps < checkpoint.SAVE_STEPS  # so only the interrupt can have saved it
    assert not (folder / "adv one.png").exists()
    words = command_of(stderr)
    assert words[-1] == "--resume"
    finish(words, folder)
    record = json.loads((folder / "adv one.json").read_text())
    assert record["resumed"] is True
    assert not kept.exists()
    whole = folder / "whole"
    whole.mkdir()
    (whole / "0.png").write_bytes((folder / "0.png").read_bytes())
    finish(attack_words(folder, steps), whole)
    assert (folder / "adv one.png").read_bytes() == (whole / "adv one.png").read_bytes()


def attack_has_begun(folder: Path) -> Seen:
    return lambda: re.search(r"[1-9]\d*/\d+", (folder / "stderr").read_text()) is not None


@pytest.mark.parametrize("seconds", [2.0, 4.0])
def test_an_attack_may_be_interrupted_at_any_moment(folder: Path, seconds: float) -> None:
    code, stderr = interrupt(attack_words(folder), folder, seconds)
    check_interrupted(code, stderr, folder)
    assert command_of(stderr)[-1] == "--resume"


# calibrate


def calibrate_words(workers: int) -> list[str]:
    options = ["--sigma", "0.3", "--num-samples", "3", "--epsilon", "32/255", "--settings", "calibrate.toml"]
    return ["calibrate", "--data", "rows.jsonl", "--out", "out", *options, "--workers", str(workers)]


@pytest.mark.parametrize(("workers", "lines"), [(1, 5), (2, 1)])
def test_a_calibration_asks_nothing_twice_after_an_interrupt(folder: Path, workers: int, lines: int) -> None:
    answers = folder / "out" / "answers.jsonl"
    code, stderr = interrupt(calibrate_words(workers), folder, has_lines(answers, lines))
    check_interrupted(code, stderr, folder)
    kept = answers.read_text().splitlines()
    assert len(kept) >= lines
    printed = finish(command_of(stderr), folder)
    assert "wrote out/guard.json" in printed
    after = answers.read_text().splitlines()
    assert after[: len(kept)] == kept
    keys = [json.loads(line)["key"] for line in after]
    assert len(set(keys)) == len(keys)


def test_a_calibration_may_be_interrupted_while_it_imports(folder: Path) -> None:
    code, stderr = interrupt(calibrate_words(2), folder, 2.0)
    check_interrupted(code, stderr, folder)


def test_a_calibration_may_be_interrupted_while_its_workers_start(folder: Path) -> None:
    code, stderr = interrupt(calibrate_words(2), folder, has_workers(folder))
    check_interrupted(code, stderr, folder)


# eval run


def eval_words() -> list[str]:
    options = ["--part", "popular", "--partial", "--attack-epsilon", "8/255", "--settings", "eval.toml"]
    return ["eval", "run", "pope", "--data", "pope", "--out", "out", *options, "--workers", "2"]


def test_an_evaluation_goes_on_after_an_interrupt(folder: Path) -> None:
    write_pope(folder / "pope")
    (folder / "eval.toml").write_text("attack = {num_steps = 5}\nguard = {num_samples = 3}\n")
    answers = folder / "out" / "kept" / "answers.jsonl"
    code, stderr = interrupt(eval_words(), folder, has_lines(answers, 2))
    check_interrupted(code, stderr, folder)
    kept = answers.read_text().splitlines()
    finish(command_of(stderr), folder)
    after = answers.read_text().splitlines()
    assert after[: len(kept)] == kept
    assert len({json.loads(line)["key"] for line in after}) == len(after)
    assert (folder / "out" / "record.json").exists()


@pytest.mark.parametrize("seconds", [2.0, 5.0])
def test_an_evaluation_may_be_interrupted_at_any_moment(folder: Path, seconds: float) -> None:
    write_pope(folder / "pope")
    (folder / "eval.toml").write_text("attack = {num_steps = 50}\n")
    code, stderr = interrupt(eval_words(), folder, seconds)
    check_interrupted(code, stderr, folder)


def test_an_interrupt_waits_until_an_import_is_over(tmp_path: Path) -> None:
    (tmp_path / "imported.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(0.3)\nprint('imported', flush=True)\n"
    )
    script = (
        "import signal, time\n"
        "from smoothguard_guardrail.cli.failures import let_interrupts_wait_for_imports\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "let_interrupts_wait_for_imports()\n"
        "try:\n"
        "    import imported\n"
        "    time.sleep(60)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert done.stdout.split() == ["imported", "interrupted"], done.stderr


def test_a_study_goes_on_after_an_interrupt(folder: Path) -> None:
    answers = folder / "out" / "answers.jsonl"
    words = ["study", "--data", "rows.jsonl", "--out", "out", "--scale", "smoke", "--limit", "1", "--match", "contains"]
    code, stderr = interrupt(words, folder, has_lines(answers, 3))
    check_interrupted(code, stderr, folder)
    kept = answers.read_text().splitlines()
    assert "report:" in finish(command_of(stderr), folder)
    assert answers.read_text().splitlines()[: len(kept)] == kept
