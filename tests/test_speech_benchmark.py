"""The parts of the speech benchmark that need no package: weights, words, ratios, perturbations, stored attacks."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks.field.ctranslate2_file import WeightsError, read_weights
from benchmarks.field.recordings import Recording, normalised, num_errors
from benchmarks.field.sounds import CANDIDATES
from benchmarks.field.speech import noise_curve
from benchmarks.field.speech_attacks import Budget, attack, epsilon
from benchmarks.field.speech_study import Elected, error_rate, is_away, is_hit, spread, vote
from benchmarks.field.transcriber import TranscribingChatModel, question
from benchmarks.field.transcripts import stance_table, word_error_table
from smoothguard_guardrail import SmoothGuardChatModel, SmoothGuardConfig
from smoothguard_guardrail.evaluation.report import Table
from smoothguard_guardrail.evaluation.statistics import Rate


def weights_file(path: Path, *, version: int = 6, cut: int = 0) -> Path:
    """Write a file of two variables and an alias, as CTranslate2 does."""

    def name(text: str) -> bytes:
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    halves = struct.pack("<4e", 1, 2, 3, -0.5)
    content = struct.pack("<I", version) + name("Spec") + struct.pack("<II", 3, 2)
    content += name("a/weight") + struct.pack("<BIIBI", 2, 2, 2, 4, 8) + halves
    content += name("heads") + struct.pack("<BBI", 0, 2, 2) + struct.pack("<h", 6)
    content += struct.pack("<I", 1) + name("b/weight") + name("a/weight")
    path.write_bytes(content[: len(content) - cut])
    return path


def test_weights_are_read(tmp_path: Path) -> None:
    found = read_weights(weights_file(tmp_path / "model.bin"))
    assert found["a/weight"].tolist() == [[1, 2], [3, -0.5]]
    assert found["a/weight"].dtype == torch.float32
    assert found["b/weight"] is found["a/weight"]
    assert int(found["heads"]) == 6


@pytest.mark.parametrize("bad", [{"version": 5}, {"cut": 1}, {"cut": 60}])
def test_other_files_are_refused(tmp_path: Path, bad: dict[str, int]) -> None:
    with pytest.raises(WeightsError):
        read_weights(weights_file(tmp_path / "model.bin", **bad))


@pytest.mark.parametrize(
    ("text", "truth", "errors"),
    [
        ("Please hold.", "please hold", 0),
        ("", "please hold", 2),
        ("please", "", 1),
        ("Please, hold a line!", "please hold the line now", 2),
        ("the line please hold", "please hold the line", 4),
    ],
)
def test_word_errors(text: str, truth: str, errors: int) -> None:
    words, wanted = normalised(text), normalised(truth)
    assert num_errors(words, wanted) == num_errors(wanted, words) == errors


def clip(seed: int = 0, size: int = 4000) -> Recording:
    waveform = 0.3 * torch.randn(size, generator=torch.Generator().manual_seed(seed))
    return Recording(
        name=f"a/{seed}", waveform=(waveform.clamp(-1, 0.99) * 2**15).round() / 2**15, words=("hold", "on")
    )


@dataclass
class Loudness:
    """Stands in for Whisper: hears how loud audio is, and writes it down."""

    steps: int = 0

    def losses(self, waveforms: torch.Tensor, targets: list[str], *, whole: bool) -> torch.Tensor:
        self.steps += 1
        return waveforms.square().sum(dim=1)

    def transcribe(self, waveforms: torch.Tensor, *, whole: bool = True) -> list[str]:
        return [f"It is {'loud' if float(each.abs().mean()) > 0.1 else 'quiet'}." for each in waveforms]


@pytest.mark.parametrize("snr_db", [20.0, 30.0])
def test_attacks_keep_the_ratio_and_are_stored(tmp_path: Path, snr_db: float) -> None:
    recording, whisper, budget = clip(), Loudness(), Budget(snr_db=snr_db, num_steps=40)
    model: Any = whisper
    first = attack(model, recording, "Open the door.", budget, tmp_path / "a.wav")
    change = (first.recording.waveform - recording.waveform).double().norm()
    ratio = 20 * torch.log10(recording.waveform.double().norm() / change)
    assert float(change) <= epsilon(recording.waveform, snr_db) + 1e-6
    assert float(ratio) == pytest.approx(snr_db, abs=0.05)
    done = whisper.steps
    again = attack(model, recording, "Open the door.", budget, tmp_path / "a.wav")
    assert whisper.steps == done
    assert torch.equal(again.recording.waveform, first.recording.waveform)
    attack(model, recording, "Open the window.", budget, tmp_path / "a.wav")
    assert whisper.steps > done


@pytest.mark.parametrize("name", CANDIDATES)
def test_perturbations_keep_shape_range_and_gradient(name: str) -> None:
    batch = clip().waveform.expand(3, 1, -1).clone().requires_grad_()
    found = CANDIDATES[name](batch, generator=torch.Generator().manual_seed(1))
    assert found.shape == batch.shape
    assert float(found.detach().abs().max()) <= 1 + 1e-4
    assert not torch.equal(found, batch)
    (gradient,) = torch.autograd.grad(found.sum(), batch)
    assert bool((gradient != 0).any())
    assert torch.equal(found, CANDIDATES[name](batch, generator=torch.Generator().manual_seed(1)))


def test_a_guard_wraps_the_transcriber() -> None:
    model = TranscribingChatModel(whisper=Loudness())
    assert model.invoke([question(clip().waveform)]).text == "It is loud."
    assert SmoothGuardChatModel(model, SmoothGuardConfig(num_samples=3)).invoke([question(clip().waveform)]).text == (
        "It is loud."
    )
    with pytest.raises(ValueError, match="audio block"):
        model.invoke("What is said?")


def test_transcripts_of_long_recordings_are_counted_apart() -> None:
    short, long = clip(0, 16_000), clip(1, 16_000 * 7)
    study: Any = SimpleNamespace(
        recordings=[short, long],
        scale=SimpleNamespace(on_all=("noise",)),
        transcript=lambda each: "Hold on.",
        copies=lambda each, name: ["Hold on."] * 4 if each is short else ["Hold on.", "Hold.", "Hold.", "Hold."],
        elected=lambda each, name: Elected(text="Hold on." if each is short else "Hold.", abstains=each is long),
    )
    table = word_error_table(study)
    assert table.rows == (
        ("noise", "all", 2, 4, 0.0, 3 / 16, 0.25, Rate(k=1, n=2)),
        ("noise", "under 6 s", 1, 2, 0.0, 0.0, 0.0, Rate(k=0, n=1)),
        ("noise", "from 6 s", 1, 2, 0.0, 3 / 8, 0.5, Rate(k=1, n=1)),
    )
    assert sum(map(int, map(str, stance_table(study).rows[0]))) == 2


def test_the_curve_takes_the_rows_of_noise() -> None:
    rows = (("no guard", 0.0, Rate(k=2, n=2)), ("noise, 20 dB", 0.1, Rate(k=1, n=2)), ("noise, 10 dB", 0.2, None))
    curve = noise_curve(Table(title="", columns=("perturbation", "vote", "attacked, 20 dB"), rows=rows))
    assert [[(point.x, point.y) for point in series.points] for series in curve.series] == [
        [(10.0, 0.2), (20.0, 0.1)],
        [(20.0, Rate(k=1, n=2))],
    ]


def test_outcomes(tmp_path: Path) -> None:
    model: Any = Loudness()
    found = attack(model, clip(), "Open the door.", Budget(snr_db=20, num_steps=1), tmp_path / "a.wav")
    assert is_hit("open the door", found)
    assert not is_hit("Open a door.", found)
    assert is_away("Open the door.", found)
    assert not is_away("Hold off.", found)
    assert error_rate([("hold on", clip()), ("hold", clip())]) == 0.25
    assert spread(list(range(10)), 4) == [0, 2, 5, 7]
    assert vote(["Hold on.", "Hold on.", "Open the door."], SmoothGuardConfig()).winner.text == "Hold on."
