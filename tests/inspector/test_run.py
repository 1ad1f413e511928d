from __future__ import annotations

import base64
import io
import threading
import time

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from PIL import Image

from smoothguard_guardrail import ConfigurationError, GuardResult, QuorumError, SmoothGuardConfig, SmoothGuardRunnable
from smoothguard_guardrail.inspector.background import in_background
from smoothguard_guardrail.inspector.run import GuardedRun, record, replay
from smoothguard_guardrail.testing import ScriptedChatModel
from tests.helpers import image_block, pixels, question

ALL = SmoothGuardConfig(num_samples=8, early_stop=None, seed=1)
ANSWERS = ("It is red.", "It is blue.", "I can't help with that.", "It is too blurry to tell.")


def last_of(model: ScriptedChatModel, config: SmoothGuardConfig = ALL, *blocks: object) -> GuardedRun:
    return list(record(model, question(*blocks), config))[-1]


def facts(result: GuardResult) -> dict[str, object]:
    return result.model_dump(include={"verdict", "action", "agreement", "clusters", "winner", "num_calls", "samples"})


def test_the_run_grows_and_ends_with_the_result_of_a_guard_with_the_same_seed() -> None:
    config = ALL.override(max_concurrency=1)
    runs = list(record(ScriptedChatModel(script=ANSWERS), question(), config))
    arrived = [sum(text is not None for text in run.texts) for run in runs]
    assert arrived == [0, *range(9), 8]
    assert [run.result is None for run in runs] == [True] * (len(runs) - 1) + [False]
    assert runs[0].originals
    assert runs[-1].texts == ANSWERS * 2
    guard = SmoothGuardRunnable(ScriptedChatModel(script=ANSWERS), config.override(record_samples=True))
    result = runs[-1].result
    assert result is not None
    assert facts(result) == facts(guard.guard(question()))


def test_what_is_shown_is_what_the_model_received() -> None:
    model = ScriptedChatModel(script=["A grey square."])
    run = last_of(model, ALL.override(max_concurrency=1))
    received = [pixels(message[0].content[1]["base64"]) for message in model.received]  # type: ignore[index]
    assert len(received) == len(run.copies) == 8
    for sent, (view,) in zip(received, run.copies, strict=True):
        assert np.abs(pixels(view.image) - sent).max() < 2 / 255
    assert run.num_bytes == sum(len(base64.b64decode(m[0].content[1]["base64"])) for m in model.received)  # type: ignore[index]


def test_the_original_is_never_a_copy_unless_a_clean_one_is_asked_for() -> None:
    for include_clean in (False, True):
        run = last_of(ScriptedChatModel(script=["A."]), ALL.override(include_clean=include_clean))
        same = [np.array_equal(pixels(view.image), pixels(run.originals[0].image)) for (view,) in run.copies]
        assert same == [include_clean, *[False] * 7]


def test_failures_are_recorded_and_too_many_end_the_run() -> None:
    run = last_of(ScriptedChatModel(script=["A.", "A.", TimeoutError("late")]), ALL.override(max_concurrency=1))
    assert run.texts == ("A.", "A.", None) * 2 + ("A.", "A.")
    assert isinstance(run.outcomes[2], TimeoutError)
    runs = record(ScriptedChatModel(script=[TimeoutError("late")]), question(), ALL)
    with pytest.raises(QuorumError):
        list(runs)


def test_an_abstention_that_raises_is_recorded() -> None:
    strict = ALL.override(vote={"on_abstain": "raise", "min_agreement": 1.0})
    result = last_of(ScriptedChatModel(script=ANSWERS), strict).result
    assert result is not None
    assert result.verdict == "abstained"


def test_audio_has_spectrograms_and_players() -> None:
    file = io.BytesIO()
    soundfile.write(file, np.sin(np.arange(8000) / 5) / 2, 8000, format="WAV")
    block = {"type": "audio", "base64": base64.b64encode(file.getvalue()).decode(), "mime_type": "audio/wav"}
    run = last_of(ScriptedChatModel(script=["A tone."]), ALL, block)
    for view in (*run.originals, *run.copies[0]):
        assert view.sound is not None
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(view.sound.partition(",")[2])))
        assert (len(samples), rate) == (8000, 8000)
    assert run.copies[0][0].difference is not None
    assert run.originals[0].difference is None


def test_nobody_watching_means_no_more_waves() -> None:
    model = ScriptedChatModel(script=ANSWERS, delay=0.05)
    runs = record(model, question(), ALL.override(early_stop="lossless", num_samples=16, max_concurrency=1))
    while not next(runs).copies:
        pass
    runs.close()  # type: ignore[attr-defined]
    time.sleep(0.3)
    asked = len(model.received)
    time.sleep(0.3)
    assert len(model.received) == asked < 16


def test_a_stop_lets_no_further_call_start() -> None:
    model, stop = ScriptedChatModel(script=ANSWERS, delay=0.05), threading.Event()
    runs = record(model, question(), ALL.override(num_samples=16, max_concurrency=1), stop=stop)
    while next(runs).outcomes[:1] in ((), (None,)):
        pass
    stop.set()
    asked = len(model.received)
    assert list(runs) == []
    time.sleep(0.3)
    assert len(model.received) <= asked + 1 < 16


def test_background_work_passes_its_failure_on() -> None:
    def work(report: object) -> None:
        report(1)  # type: ignore[operator]
        raise ValueError("no")

    found = in_background(work)
    assert next(found) == 1
    with pytest.raises(ValueError, match="no"):
        next(found)


@pytest.mark.slow
@given(
    answers=st.lists(st.sampled_from(ANSWERS), min_size=8, max_size=8),
    num_samples=st.integers(1, 8),
    refusal_share=st.sampled_from([0.05, 0.125, 0.35, 0.8]),
    min_agreement=st.sampled_from([0.0, 0.5, 0.9]),
    early_stop=st.sampled_from([None, "lossless"]),
)
def test_a_replay_is_what_the_guard_decides(
    answers: list[str], num_samples: int, refusal_share: float, min_agreement: float, early_stop: str | None
) -> None:
    vote = {"refusal_share": refusal_share, "min_agreement": min_agreement}
    config = ALL.override(num_samples=num_samples, early_stop=early_stop, vote=vote, max_concurrency=1)
    guard = SmoothGuardRunnable(ScriptedChatModel(script=answers), config.override(record_samples=True))
    again = replay(GuardedRun(question="", config=config, outcomes=tuple(map(AIMessage, answers))), config)
    assert facts(again) == facts(guard.guard(question()))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"sigma": 0.2}, "sigma"),
        ({"image": {"max_shift": 0}}, "image"),
        ({"include_clean": True}, "include_clean"),
        ({"num_samples": 9}, "9 answers, 8"),
    ],
)
def test_a_replay_refuses_what_needs_a_new_run(changes: dict[str, object], named: str) -> None:
    model = ScriptedChatModel(script=["A."])
    run = last_of(model)
    with pytest.raises(ConfigurationError, match=named):
        replay(run, ALL.override(**changes))
    assert len(model.received) == 8


def test_text_alone_is_asked_once() -> None:
    run = last_of(ScriptedChatModel(script=["Hi."]), ALL, {"type": "text", "text": "Hello."})
    assert run.result is not None
    assert (run.result.verdict, run.copies, run.originals) == ("skipped", ((),), ())


@pytest.mark.slow
def test_large_images_are_thinned_and_not_averaged() -> None:
    rng = np.random.default_rng(0)
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (900, 700, 3), dtype=np.uint8)).save(file, "PNG")
    (original,) = last_of(ScriptedChatModel(script=["A."]), ALL, image_block(file.getvalue())).originals
    shown = pixels(original.image)
    assert max(shown.shape) <= 320
    assert shown.std() > 0.2  # the mean of 3 x 3 pixels of noise would have a third of its 0.29
