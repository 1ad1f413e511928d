"""What was asked once is not asked again: torn lines, killed runs, changed models, judges."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import BaseMessage

from smoothguard_guardrail._internal.files import file_sha256
from smoothguard_guardrail.errors import InputError
from smoothguard_guardrail.evaluation import CachedJudge, ChatJudge, Item, identify
from smoothguard_guardrail.evaluation.cache import JsonLinesStore, content_key
from smoothguard_guardrail.evaluation.fingerprints import folder_sha256
from smoothguard_guardrail.testing import ScriptedChatModel

JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3))
Values = st.dictionaries(st.text(min_size=1), JSON.filter(lambda value: value is not None), max_size=8)


@settings(deadline=None, max_examples=50)
@given(values=Values)
def test_what_is_kept_is_there_again(tmp_path_factory: pytest.TempPathFactory, values: dict[str, object]) -> None:
    path = tmp_path_factory.mktemp("kept") / "kept.jsonl"
    kept = JsonLinesStore(path)
    for key, value in values.items():
        kept.put(key, value)  # type: ignore[arg-type]
    again = JsonLinesStore(path)
    assert len(again) == len(values)
    assert {key: again.get(key) for key in values} == values


@settings(deadline=None, max_examples=50)
@given(values=Values.filter(bool), cut=st.integers(1, 10_000))
def test_a_torn_last_line_costs_no_other(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, object], cut: int
) -> None:
    path = tmp_path_factory.mktemp("torn") / "kept.jsonl"
    kept = JsonLinesStore(path)
    for key, value in values.items():
        kept.put(key, value)  # type: ignore[arg-type]
    data = path.read_bytes()
    last = data.rstrip(b"\n").rpartition(b"\n")[2]
    path.write_bytes(data[: len(data) - min(cut, len(last))])
    torn = JsonLinesStore(path)
    torn.put("new", "line")
    again = JsonLinesStore(path)
    assert again.get("new") == "line"
    for key in [key for key in values if key != "new"][:-1]:
        assert again.get(key) == values[key]


def test_two_runs_may_share_a_file(tmp_path: Path) -> None:
    first, second = JsonLinesStore(tmp_path / "kept.jsonl"), JsonLinesStore(tmp_path / "kept.jsonl")
    for number in range(10):
        first.put(f"a{number}", number)
        second.put(f"b{number}", number)
    assert len(JsonLinesStore(tmp_path / "kept.jsonl")) == 20


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kept.jsonl").write_text('{"question_id": 1}\n')
    with pytest.raises(InputError, match="not a store of answers"):
        JsonLinesStore(tmp_path / "kept.jsonl")


@settings(deadline=None)
@given(st.text(), st.text(), st.integers())
def test_keys_differ_where_anything_does(question: str, other: str, seed: int) -> None:
    same = content_key(question=question, seed=seed) == content_key(question=other, seed=seed)
    assert same == (question == other)
    assert content_key(question=question, seed=seed) != content_key(question=question, seed=seed + 1)


# The script of a run that can be killed: every call of the model adds a line to calls.txt.
RUN = """
import sys, time
from pathlib import Path
from smoothguard_guardrail import GuardComponents, SmoothGuardConfig, VoteConfig
from smoothguard_guardrail.evaluation import Arm, InThreads, Item, run_arms
from smoothguard_guardrail.testing import ScriptedChatModel, WordEmbeddings

folder = Path(sys.argv[1])

def reply(messages):
    with open(folder / "calls.txt", "a") as file:
        file.write("asked\\n")
    time.sleep(float(sys.argv[2]))
    return "A grey square."

items = [Item(id=str(n), question=f"What is {n}?", media=(folder / "grey.png",)) for n in range(8)]
config = SmoothGuardConfig(num_samples=3, early_stop=None, vote=VoteConfig(refusal_share=0.6, min_agreement=0.0))
WORDS = GuardComponents(embedder=WordEmbeddings())
arms = [
    Arm(name="clean", items=items),
    Arm(name="guarded", items=items, config=config, components=WORDS, components_name="words"),
]
answers = run_arms(ScriptedChatModel(script=reply), arms, folder=folder, mapper=InThreads(1), seed=0)
print({arm: [answer.text for answer in by_id.values()] for arm, by_id in answers.items()})
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_and_asks_nothing_twice(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (16, 12), "grey").save(tmp_path / "grey.png")
    (tmp_path / "run.py").write_text(RUN)
    command = [sys.executable, str(tmp_path / "run.py"), str(tmp_path)]
    calls, kept = tmp_path / "calls.txt", tmp_path / "answers.jsonl"
    with subprocess.Popen([*command, "0.05"], stdout=subprocess.PIPE) as running:
        while running.poll() is None and (not kept.exists() or kept.read_text().count("\n") < 10):
            time.sleep(0.01)
        running.kill()
    assert running.returncode < 0
    calls.unlink()
    there = [json.loads(line)["value"] for line in kept.read_text().split("\n")[:-1]]
    assert 10 <= len(there) < 16
    told = subprocess.run([*command, "0"], capture_output=True, text=True, check=True)
    assert eval(told.stdout) == {"clean": ["A grey square."] * 8, "guarded": ["A grey square."] * 8}
    assert calls.read_text().count("asked") == 8 + 8 * 3 - sum(answer["num_calls"] for answer in there)
    assert len(JsonLinesStore(kept)) == 16


def test_a_judge_is_asked_once_also_by_later_runs(tmp_path: Path) -> None:
    def reply(messages: list[BaseMessage]) -> str | Exception:
        return RuntimeError("down") if "bad" in messages[1].text else "unsafe"

    items = [Item(id=str(number), question="?") for number in range(3)]
    for asked in (["a", "bad"], ["bad"]):
        model = ScriptedChatModel(script=reply)
        judge = CachedJudge(ChatJudge(model), tmp_path / "judgements.jsonl")
        judged = judge(items, ["a", "bad", "a"]) if len(asked) == 2 else judge(items[:2], ["a", "a"])
        assert [each.verdict for each in judged] == ([True, None, True] if len(asked) == 2 else [True, True])
        assert len(model.received) == (2 if len(asked) == 2 else 0)
    other = ScriptedChatModel(script=["safe"])
    judge = CachedJudge(ChatJudge(other, prompts={"unsafe": "Safe?"}), tmp_path / "judgements.jsonl")
    assert judge(items[:1], ["a"])[0].verdict is False


def test_a_file_is_read_again_when_it_changed(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"one")
    first = file_sha256(path)
    assert file_sha256(path) == first
    path.write_bytes(b"three")
    assert file_sha256(path) != first


def test_a_models_folder_is_remembered_by_size_and_time(tmp_path: Path) -> None:
    folder, memory = tmp_path / "model", tmp_path / "kept" / "fingerprints.json"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "README.md").write_text("words")
    digest = folder_sha256(folder, memory=memory)
    assert folder_sha256(folder) == digest
    (folder / "README.md").write_text("other words")
    assert folder_sha256(folder, memory=memory) == digest
    # The memory is believed: with a hash of its own in it, that hash counts.
    known = json.loads(memory.read_text())
    memory.write_text(json.dumps(dict.fromkeys(known, "0" * 64)))
    assert folder_sha256(folder, memory=memory) != digest
    # ... but not for a file that has changed since.
    os.utime(folder / "model.safetensors", ns=(1, 1))
    assert folder_sha256(folder, memory=memory) == digest
    (folder / "model.safetensors").write_bytes(b"WEIGHTS")
    assert folder_sha256(folder, memory=memory) != digest


def test_a_model_is_known_by_its_weights_wherever_it_lies(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"weights")
    first, second = (identify(f"hf:{tmp_path / name}") for name in ("a", "b"))
    assert first != second
    assert first.key == second.key
    (tmp_path / "b" / "model.safetensors").write_bytes(b"others")
    assert identify(f"hf:{tmp_path / 'b'}").key != first.key


def test_changed_weights_in_memory_are_another_model() -> None:
    import torch

    from smoothguard_guardrail.models import load_model

    model = load_model("reference", device="cpu")
    before = identify(model)
    assert identify(model) == before
    with torch.no_grad():
        next(model.hf_model.parameters())[0] += 1  # type: ignore[attr-defined]
    assert identify(model).key != before.key


def test_models_of_providers_are_known_by_name_and_settings() -> None:
    assert identify("openai:gpt-4o").key != identify("openai:gpt-4o-mini").key
    scripted = identify(ScriptedChatModel(script=["a"]))
    assert scripted.weights_sha256 is None
    assert scripted.name.endswith("ScriptedChatModel")


@pytest.mark.parametrize("line", ['{"key": [1], "value": 1}', '{"key": {}, "value": 1}', '{"key": null, "value": 1}'])
def test_a_key_that_is_none_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "kept.jsonl").write_text(line + "\n")
    with pytest.raises(InputError, match="not a store of answers"):
        JsonLinesStore(tmp_path / "kept.jsonl")


def test_a_line_that_is_nested_too_deep_to_read_costs_no_other(tmp_path: Path) -> None:
    JsonLinesStore(tmp_path / "kept.jsonl").put("a", 1)
    with (tmp_path / "kept.jsonl").open("a") as file:
        file.write("[" * 200_000 + "\n")
    assert JsonLinesStore(tmp_path / "kept.jsonl").get("a") == 1


def test_what_a_provider_blocks_does_not_stop_a_run_that_goes_on(tmp_path: Path) -> None:
    def reply(messages: list[BaseMessage]) -> str | Exception:
        return RuntimeError("blocked") if "bad" in messages[1].text else "unsafe"

    path, items = tmp_path / "judgements.jsonl", [Item(id=str(number), question="?") for number in range(2)]
    with pytest.raises(RuntimeError, match="blocked"):  # nothing was judged: the judge itself may be down
        CachedJudge(ChatJudge(ScriptedChatModel(script=reply)), path)(items, ["bad 1", "bad 2"])
    for _ in range(2):  # the second run asks about the blocked one alone
        judged = CachedJudge(ChatJudge(ScriptedChatModel(script=reply)), path)(items, ["a", "bad"])
        assert [each.verdict for each in judged] == [True, None]
    many = [Item(id=str(number), question="?") for number in range(30)]
    with pytest.raises(RuntimeError, match="blocked"):
        CachedJudge(ChatJudge(ScriptedChatModel(script=reply)), path)(
            many, ["a", *(f"bad {number}" for number in range(29))]
        )


def test_settings_of_any_kind_tell_models_apart_and_are_not_shown() -> None:
    class Told(ScriptedChatModel):
        options: dict[str, str] | None = None
        base_url: str = "http://one"

        @property
        def _identifying_params(self) -> dict[str, object]:
            return {"options": self.options, "stop": ["."], "nothing": None}

    plain = identify(Told(script=["a"]))
    others = [
        identify(Told(script=["a"], options={"key": "secret"})),
        identify(Told(script=["a"], base_url="http://two")),
    ]
    assert all(other.key != plain.key for other in others)
    assert "nothing" not in plain.settings
    assert not any(word in each.model_dump_json() for each in others for word in ("secret", "http"))
