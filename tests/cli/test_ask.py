from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from smoothguard_guardrail.cli import app
from smoothguard_guardrail.testing import ScriptedChatModel

MULTILINE = RuntimeError("the server is on fire\nplease stand by\n" + "x" * 1000)


def images_received(model: ScriptedChatModel) -> list[str]:
    return [messages[0].content[0]["base64"] for messages in model.received]  # type: ignore[index]


def assert_fails(result: object, code: int, *words: str) -> None:
    assert (result.exit_code, result.stdout) == (code, "")  # type: ignore[attr-defined]
    (line,) = result.stderr.splitlines()  # type: ignore[attr-defined]
    assert line.startswith("smoothguard: ")
    for word in words:
        assert word in line


def test_prints_the_answer_and_reports_the_verdict_on_stderr(
    runner: CliRunner, picture: Path, scripted: ScriptedChatModel
) -> None:
    result = runner.invoke(app, ["ask", str(picture), "What is it?"])
    assert (result.exit_code, result.stdout) == (0, "A grey square.\n")
    assert result.stderr.startswith("passed, answered: agreement 1.00, ")
    assert len(result.stderr.splitlines()) == 1


def test_the_model_sees_noisy_copies_only(runner: CliRunner, picture: Path, scripted: ScriptedChatModel) -> None:
    runner.invoke(app, ["ask", str(picture), "What is it?", "--preset", "default"])
    received = images_received(scripted)
    assert len(set(received)) == len(received) > 1
    assert base64.b64encode(picture.read_bytes()).decode() not in received


def test_json_has_answer_and_record(runner: CliRunner, picture: Path, scripted: ScriptedChatModel) -> None:
    arguments = ["--json", "--sigma", "0.25", "--num-samples", "4", "--seed", "7", "--preset", "default"]
    result = runner.invoke(app, ["ask", str(picture), "What is it?", *arguments])
    record = json.loads(result.stdout)
    assert result.stderr == ""
    assert record["answer"] == "A grey square."
    assert (record["guarded"], record["model"], record["verdict"]) == (True, "reference", "passed")
    assert record["sigma"] == 0.25
    assert record["num_calls"] == len(record["samples"]) == len(scripted.received) <= 4
    assert record["samples"][0]["text"] == "A grey square."
    assert record["media"][0]["mime_type"] == "image/png"


def test_the_same_seed_sends_the_model_the_same_bytes(
    runner: CliRunner, picture: Path, scripted: ScriptedChatModel
) -> None:
    for _ in range(2):
        runner.invoke(app, ["ask", str(picture), "What is it?", "--seed", "7", "--num-samples", "3"])
    received = images_received(scripted)
    half = len(received) // 2
    assert sorted(received[:half]) == sorted(received[half:])


def test_paper_preset_asks_eleven_times_in_normalized_space(
    runner: CliRunner, picture: Path, scripted: ScriptedChatModel
) -> None:
    result = runner.invoke(app, ["ask", str(picture), "What is it?", "--preset", "paper", "--json"])
    record = json.loads(result.stdout)
    assert (record["num_calls"], record["noise_space"], record["clean_overruled"]) == (11, "normalized", False)


def test_unguarded_asks_once_about_the_file_itself(
    runner: CliRunner, picture: Path, scripted: ScriptedChatModel
) -> None:
    result = runner.invoke(app, ["ask", str(picture), "What is it?", "--unguarded"])
    assert (result.exit_code, result.stdout, result.stderr) == (0, "A grey square.\n", "")
    assert images_received(scripted) == [base64.b64encode(picture.read_bytes()).decode()]
    result = runner.invoke(app, ["ask", str(picture), "What is it?", "--unguarded", "--json"])
    assert json.loads(result.stdout) == {
        "answer": "A grey square.",
        "guarded": False,
        "num_calls": 1,
        "model": "reference",
    }


def test_several_files_keep_their_order(
    runner: CliRunner, picture: Path, recording: Path, scripted: ScriptedChatModel
) -> None:
    result = runner.invoke(app, ["ask", str(picture), str(recording), "What is it?", "--num-samples", "3", "--json"])
    assert [medium["kind"] for medium in json.loads(result.stdout)["media"]] == ["image", "audio"]
    content = scripted.received[0][0].content
    assert content[-1] == {"type": "text", "text": "What is it?"}


def test_a_question_may_be_longer_than_file_names(
    runner: CliRunner, picture: Path, scripted: ScriptedChatModel
) -> None:
    question = "Why? " * 2000
    assert runner.invoke(app, ["ask", str(picture), question, "--unguarded"]).exit_code == 0
    assert scripted.received[0][0].content[-1] == {"type": "text", "text": question}


def test_bad_input_is_exit_code_2(runner: CliRunner, picture: Path, scripted: ScriptedChatModel) -> None:
    text = picture.with_name("notes.txt")
    text.write_text("no picture")
    film = picture.with_name("film.webm")
    film.write_bytes(b"\x1aE\xdf\xa3" + bytes(100))
    broken = picture.with_name("broken.png")
    broken.write_bytes(picture.read_bytes()[:60])
    assert_fails(runner.invoke(app, ["ask", "absent.png", "What?"]), 2, "absent.png", "No such file")
    assert_fails(runner.invoke(app, ["ask", str(picture.parent), "What?"]), 2, "cannot be read")
    assert_fails(runner.invoke(app, ["ask", str(text), "What?"]), 2, "notes.txt")
    assert_fails(runner.invoke(app, ["ask", str(film), "What?"]), 2, "messages[0].content[0]")
    assert_fails(runner.invoke(app, ["ask", str(broken), "What?"]), 2, "messages[0].content[0]")
    assert_fails(runner.invoke(app, ["ask", "What?"]), 2, "at least one file")
    assert_fails(runner.invoke(app, ["ask", str(picture), str(picture)]), 2, "the question")
    assert_fails(runner.invoke(app, ["ask", str(picture), "What?", "--sigma", "-1"]), 2, "sigma")
    assert_fails(runner.invoke(app, ["ask", str(picture), "What?", "--num-samples", "0"]), 2, "num_samples")
    assert runner.invoke(app, ["ask", str(picture), "What?", "--preset", "none"]).exit_code == 2
    assert scripted.received == []


@pytest.mark.parametrize("spec", ["nothing", "hf:/no/such/folder", "no-such-provider:model", "hf:"])
def test_unknown_model_is_exit_code_2(runner: CliRunner, picture: Path, spec: str) -> None:
    assert_fails(runner.invoke(app, ["ask", str(picture), "What?", "--model", spec]), 2, spec)


def test_too_few_answers_are_exit_code_3(runner: CliRunner, picture: Path, scripted: ScriptedChatModel) -> None:
    scripted.script = [MULTILINE]
    assert_fails(runner.invoke(app, ["ask", str(picture), "What?"]), 3, "0 samples answered", "on fire please")


def test_any_other_failure_is_exit_code_1(runner: CliRunner, picture: Path, scripted: ScriptedChatModel) -> None:
    scripted.script = [MULTILINE]
    result = runner.invoke(app, ["ask", str(picture), "What?", "--unguarded"])
    assert_fails(result, 1, "RuntimeError: the server is on fire please stand by")
    assert len(result.stderr) < 500


def test_a_few_failures_do_not_fail_the_command(runner: CliRunner, picture: Path, scripted: ScriptedChatModel) -> None:
    scripted.script = ["A grey square.", "A grey square.", "A grey square.", MULTILINE]
    result = runner.invoke(app, ["ask", str(picture), "What?", "--num-samples", "4"])
    assert (result.exit_code, result.stdout) == (0, "A grey square.\n")


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom smoothguard_guardrail.cli import main\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('torch', 'transformers', 'langchain_core', 'numpy', 'pydantic') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    assert "demo" in ran.stdout
    assert "ask" in ran.stdout
    assert ran.stdout.splitlines()[-1] == "[]"


def test_saved_copies_are_what_the_model_saw(
    runner: CliRunner, picture: Path, recording: Path, scripted: ScriptedChatModel, tmp_path: Path
) -> None:
    folder = tmp_path / "copies"
    options = ["--num-samples", "3", "--preset", "default", "--save-copies", str(folder)]
    result = runner.invoke(app, ["ask", str(picture), str(recording), "What is it?", *options])
    assert (result.exit_code, result.stdout) == (0, "A grey square.\n")
    calls = len(scripted.received)
    names = [f"{call:02}_{place}" for call in range(1, calls + 1) for place in ("1.png", "2.wav")]
    assert sorted(file.name for file in folder.iterdir()) == names
    images = [np.asarray(Image.open(file)) for file in sorted(folder.glob("*.png"))]
    sent = [np.asarray(Image.open(io.BytesIO(base64.b64decode(each)))) for each in images_received(scripted)]
    assert all(any(np.array_equal(image, each) for each in sent) for image in images)
    assert not any(np.array_equal(image, np.full((24, 32, 3), 128)) for image in images)


def test_settings_of_images_and_of_the_vote(runner: CliRunner, picture: Path, scripted: ScriptedChatModel) -> None:
    arguments = ["ask", str(picture), "What is it?", "--preset", "default", "--num-samples", "4", "--json"]
    options = ["--resolution", "16", "--max-shift", "0", "--min-agreement", "0.9"]
    scripted.script = ["A cat.", "A dog."]
    record = json.loads(runner.invoke(app, [*arguments, *options]).stdout)
    assert (record["verdict"], record["media"][0]["perturbed_size"]) == ("abstained", [16, 12])
    assert_fails(runner.invoke(app, [*arguments, "--resolution", "huge"]), 2, "resolution")
    assert_fails(
        runner.invoke(app, [*arguments, "--unguarded", "--save-copies", "x"]), 2, "--save-copies or --unguarded"
    )
