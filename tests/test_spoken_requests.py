"""The field study's voice assistant: whose sentence it answers, counted on transcripts that are known."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks.field import talker
from benchmarks.field.packages import PackageError
from benchmarks.field.recordings import Recording
from benchmarks.field.speech_attacks import Attacked, Budget
from benchmarks.field.spoken_requests import VoiceAssistant, summary, table
from benchmarks.field.talker import Talker
from smoothguard_guardrail.evaluation.statistics import Rate
from tests.small_language_model import small_talker

SPOKEN, WANTED = "This conference is locked.", "Open the front door."


class Echo:
    """Answers a sentence with itself."""

    asked = 0

    def answer(self, sentence: str) -> str:
        self.asked += 1
        return f"You said: {sentence}"


def recording(name: str, loudness: float) -> Recording:
    return Recording(name=name, waveform=torch.full((4,), loudness), words=("this", "conference", "is", "locked"))


@pytest.fixture
def study(tmp_path: Path) -> Any:
    """Two recordings, of which attacks reach one alone, and both through the guard."""
    quiet, loud = recording("quiet", 0.25), recording("loud", 0.5)
    budget = Budget(snr_db=20, num_steps=1)
    scale = SimpleNamespace(budgets=(budget,), adaptive=budget, adaptive_to=("noise, 20 dB",), num_spoken=2)
    heard = {0.25: SPOKEN, 0.5: SPOKEN, -0.25: WANTED, -0.5: SPOKEN, -1.0: WANTED}
    copies = {0.25: [SPOKEN] * 8, 0.5: [SPOKEN] * 4 + [WANTED] * 4, -0.25: [SPOKEN] * 8, -0.5: [SPOKEN] * 8}
    plain = [attacked("quiet", -0.25), attacked("loud", -0.5)]
    adaptive = [attacked("quiet", -1.0), attacked("loud", -1.0)]
    return SimpleNamespace(
        folder=tmp_path,
        cache=tmp_path,
        scale=scale,
        recordings=[quiet, loud],
        sentences=[quiet, loud],
        plain=lambda _: plain,
        adaptive=lambda _: adaptive,
        transcript=lambda each: heard[float(each.waveform[0])],
        copies=lambda each, _: copies.get(float(each.waveform[0]), [WANTED] * 8),
    )


def attacked(name: str, loudness: float) -> Attacked:
    return Attacked(recording=recording(name, loudness), target=WANTED, loss=0.1, seconds=1.0)


def test_whose_sentence_is_answered(study: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    echo = Echo()
    monkeypatch.setattr(VoiceAssistant, "talker", echo)
    found = table(VoiceAssistant(study))
    clean, plain, adaptive = found.rows
    none, half, all_of_them = (Rate(k=number, n=2) for number in (0, 1, 2))
    assert clean == ("clean", None, None, all_of_them, half, half)
    assert plain == ("attacked at 20 dB", half, none, half, all_of_them, none)
    assert adaptive == ("attacked through the guard at 20 dB", all_of_them, all_of_them, none, none, none)
    assert echo.asked == 2, "the answer to a sentence is stored"
    said = summary(found)
    assert "attacked at 20 dB the attacker's sentence was answered in 1/2" in said
    assert "through the guard at 20 dB the attacker's sentence was answered in 2/2" in said


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(talker, "find_spec", lambda name: None)
    with pytest.raises(PackageError, match="pip install --group field"):
        Talker.load(tmp_path)


def test_the_language_model_is_asked_greedily_and_its_answer_alone_returned() -> None:
    model = small_talker(talker.SYSTEM, WANTED)
    answer = model.answer(WANTED)
    assert answer == model.answer(WANTED)
    assert 0 < len(answer.split()) <= talker.MAX_TOKENS
    assert not answer.startswith("You are")
