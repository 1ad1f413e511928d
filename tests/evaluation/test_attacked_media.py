"""Attacked media of items: what the attack meets, what it aims at, and what is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from smoothguard_guardrail import ConfigurationError, InputError, SmoothGuardConfig, UnsupportedMediaError
from smoothguard_guardrail.attacks import TargetLoss
from smoothguard_guardrail.core import request_perturber
from smoothguard_guardrail.core.model_info import ModelInfo
from smoothguard_guardrail.core.request_perturber import RequestPerturber
from smoothguard_guardrail.evaluation.attacked_media import attack_items, control_items
from smoothguard_guardrail.evaluation.attackers import AttackSettings
from smoothguard_guardrail.evaluation.input_media import as_model_input, read_image, read_medium
from smoothguard_guardrail.evaluation.items import Item
from smoothguard_guardrail.evaluation.mappers import InThreads
from smoothguard_guardrail.media import prepare, scan
from smoothguard_guardrail.media.files import request_from_files
from smoothguard_guardrail.models import ChatTransformersMultimodal, load_model
from smoothguard_guardrail.testing import ScriptedChatModel
from tests.models import tiny

QUICK = AttackSettings(epsilon=8 / 255, num_steps=1, seed=3)
GUARD = SmoothGuardConfig(sigma=0.1, device="cpu")


def item(folder: Path, name: str, *, size: tuple[int, int] = (96, 96), **details: str) -> Item:
    path = folder / f"{name}.png"
    values = np.random.default_rng(len(name)).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    return Item(id=name, question="What colour is the circle?", media=(path,), details=dict(details))


@pytest.fixture
def lines(tmp_path: Path) -> Any:
    """Read what was written down about each picture, by item."""

    def read() -> dict[str, Any]:
        written = (tmp_path / "attacked" / "attacked.jsonl").read_text().splitlines()
        return {value["item"]: value for value in (json.loads(line)["value"] for line in written)}

    return read


def test_an_adaptive_attack_meets_what_the_guard_shows_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: list[torch.Tensor] = []
    ask = TargetLoss.__call__

    def spy(loss: TargetLoss, images: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        met.append(images.detach().clone())
        return ask(loss, images, rows)

    model, large = load_model("reference"), item(tmp_path, "large", size=(240, 150), target="Red.")
    monkeypatch.setattr(TargetLoss, "__call__", spy)
    settings = QUICK.model_copy(update={"through": GUARD, "num_draws": 3})
    attack_items(model, [large], settings, folder=tmp_path / "attacked")
    # The guard, with the attack's noise instead of its own.
    monkeypatch.setattr(
        request_perturber, "make_generator", lambda *_, **__: torch.Generator().manual_seed(settings.seed)
    )
    request = prepare([request_from_files(large.media, "?")], GUARD.media)
    requests = RequestPerturber(request, config=GUARD, model_info=ModelInfo.find(model), seed=0).render(0, 3)
    assert met[0].shape == (3, 3, 96, 96)
    shown = torch.stack([found.value for each in requests for found in scan(each)])
    assert torch.allclose(met[0], shown, atol=1.5 / 255)  # the guard resizes in whole levels


@pytest.mark.slow
def test_every_kind_of_attack_changes_what_it_may(tmp_path: Path) -> None:
    model, drawn = load_model("reference"), item(tmp_path, "drawn", target="Red.")
    original = read_image(drawn.media[0])
    moved = {}
    kinds: dict[str, dict[str, Any]] = {
        "grid": {"grid": 1},
        "patch": {"patch": 1 / 6, "epsilon": 1.0, "step_size": 0.05, "num_steps": 8},
        "straight": {"straight_through": True},
        "clean": {"clean_share": 0.5},
        "start": {"answer_start": "I'm sorry. "},
    }
    for name, changes in kinds.items():
        settings = QUICK.model_copy(update={"through": GUARD, "num_draws": 2, **changes})
        files = attack_items(model, [drawn], settings, folder=tmp_path / name)
        moved[name] = read_image(files["drawn"]) - original
    change = moved["grid"]
    clipped = (original + change).flatten(1)
    inside = (clipped > 0) & (clipped < 1)
    for values, free in zip(change.flatten(1), inside, strict=True):
        assert values[free].max() - values[free].min() < 1.5 / 255, "one cell changes the whole image alike"
    rows, columns = moved["patch"].abs().amax(0).nonzero(as_tuple=True)
    assert 0 < len(rows) <= 16 * 16
    assert max(int(rows.max() - rows.min()), int(columns.max() - columns.min())) < 16
    assert len({each.numpy().tobytes() for each in moved.values()}) == len(kinds)


@pytest.mark.parametrize(
    "bad",
    [
        {"grid": 4, "random_start": True},
        {"grid": 4, "patch": 0.5},
        {"grid": 4, "method": "square"},
        {"patch": 0.5, "method": "square"},
    ],
)
def test_settings_that_exclude_each_other_are_rejected(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"grid|patch"):
        AttackSettings(epsilon=0.1, **bad)


def test_targets_come_from_settings_items_or_the_model_itself(tmp_path: Path, lines: Any) -> None:
    model, folder = load_model("reference"), tmp_path / "attacked"
    items = [
        item(tmp_path, "own", target="Red."),
        item(tmp_path, "none"),
        item(tmp_path, "other size", size=(120, 96), target="Blue."),
    ]
    told: list[tuple[int, int]] = []
    files = attack_items(model, items, QUICK, folder=folder, progress=lambda done, of: told.append((done, of)))
    assert (told[0][0], told[-1]) == (1, (3, 3))
    own_answer = str(model.invoke([request_from_files(items[1].media, items[1].question)]).text)
    assert {name: line["target"] for name, line in lines().items()} == {
        "own": "Red.",
        "none": own_answer,
        "other size": "Blue.",
    }
    for each in items:
        assert files[each.id] == folder / f"{each.id}.png"
        change = (read_image(each.media[0]) - read_image(files[each.id])).abs().max()
        assert 0 < change <= 8 / 255 + 1e-6
    attack_items(model, items, QUICK.model_copy(update={"target": "Green."}), folder=folder)
    assert {line["target"] for line in lines().values()} == {"Green."}


def test_kept_pictures_are_used_again_while_they_are_what_was_made(tmp_path: Path) -> None:
    model, folder = load_model("reference"), tmp_path / "attacked"
    items = [item(tmp_path, "a", target="Red."), item(tmp_path, "bb", target="Red.")]

    def made(settings: AttackSettings = QUICK, **options: Any) -> list[bytes]:
        return [file.read_bytes() for file in attack_items(model, items, settings, folder=folder, **options).values()]

    first = made()
    times = [(folder / f"{each.id}.png").stat().st_mtime_ns for each in items]
    assert made(QUICK.model_copy(update={"num_draws": 5}), mapper=InThreads(1)) == first  # no draws without a guard
    assert [(folder / f"{each.id}.png").stat().st_mtime_ns for each in items] == times
    (folder / "a.png").write_bytes(b"torn")
    assert made() == first
    assert not list(folder.glob(".*"))


def test_attacks_that_share_a_folder_keep_each_others_pictures(tmp_path: Path) -> None:
    model, folder, one = load_model("reference"), tmp_path / "attacked", item(tmp_path, "../a", target="Red.")
    adaptive = QUICK.model_copy(update={"through": GUARD, "num_draws": 2})
    asked_alike = adaptive.model_copy(update={"through": GUARD.override(num_samples=9)})
    files = {
        attack_items(model, [one], settings, folder=folder, shares_folder=True)[one.id]
        for settings in (QUICK, adaptive, asked_alike)
    }
    assert files == set(folder.glob("*.png"))
    assert len(files) == 2


def test_what_cannot_be_attacked_is_refused(tmp_path: Path) -> None:
    one, text = item(tmp_path, "a"), tmp_path / "words.txt"
    text.write_text("words")
    with pytest.raises(ConfigurationError, match="expected items with an image or audio"):
        attack_items("reference", [Item(id="a", question="?")], QUICK, folder=tmp_path)
    with pytest.raises(ConfigurationError, match="expected a local model, whose gradient"):
        attack_items(ScriptedChatModel(script=["Red."]), [one], QUICK, folder=tmp_path)
    for path, words in ((text, "known format"), (tmp_path / "absent.png", "cannot be read")):
        with pytest.raises(InputError, match=words):
            attack_items("reference", [one.model_copy(update={"media": (path,)})], QUICK, folder=tmp_path)


@pytest.fixture(scope="module")
def audio_model(tmp_path_factory: pytest.TempPathFactory) -> ChatTransformersMultimodal:
    folder = tiny.build_qwen2_audio(tmp_path_factory.mktemp("audio"))
    return ChatTransformersMultimodal.from_pretrained(str(folder), device="cpu")


def audio_item(folder: Path, name: str, *, samples: int = 4000, **details: str) -> Item:
    path = folder / f"{name}.wav"
    soundfile.write(path, np.sin(np.arange(samples)[:, None] / [5, 7]) / 2, 8000)
    return Item(id=name, question="Tell me.", media=(path,), details=dict(details))


@pytest.mark.slow
def test_audio_is_attacked_as_the_model_gets_it(
    audio_model: ChatTransformersMultimodal, tmp_path: Path, lines: Any
) -> None:
    items = [audio_item(tmp_path, "a", target="No."), audio_item(tmp_path, "b", samples=3000), item(tmp_path, "c")]
    settings = AttackSettings(epsilon=0.005, num_steps=3, through=GUARD, num_draws=2)
    files = attack_items(audio_model, items[:2], settings, folder=tmp_path / "attacked")
    assert {name: path.name for name, path in files.items()} == {"a": "a.wav", "b": "b.wav"}
    for each in items[:2]:
        original = as_model_input(audio_model, read_medium(each.media[0]))
        attacked = read_medium(files[each.id])
        assert (attacked.sampling_rate, attacked.tensor.shape) == (16_000, original.tensor.shape)
        assert 0 < (attacked.tensor - original.tensor).abs().max() <= 0.005 + 1e-6
    own_answer = str(audio_model.invoke([request_from_files(items[1].media, items[1].question)]).text)
    assert {name: line["target"] for name, line in lines().items()} == {"a": "No.", "b": own_answer}
    with pytest.raises(UnsupportedMediaError):
        attack_items(audio_model, items, settings, folder=tmp_path / "attacked")
    square = AttackSettings(epsilon=0.005, method="square")
    with pytest.raises(ConfigurationError, match="are for images"):
        attack_items(audio_model, items[:1], square, folder=tmp_path / "attacked")


def test_stored_audio_depends_on_the_audio_noise_only(audio_model: ChatTransformersMultimodal, tmp_path: Path) -> None:
    one, folder = audio_item(tmp_path, "a", target="No."), tmp_path / "attacked"
    settings = AttackSettings(epsilon=0.005, num_steps=1, num_draws=1)
    guards = (GUARD, GUARD.override(sigma=0.3), GUARD.override(audio={"snr_db": 10.0}))
    made = [
        attack_items(
            audio_model, [one], settings.model_copy(update={"through": guard}), folder=folder, shares_folder=True
        )["a"]
        for guard in guards
    ]
    assert made[0] == made[1] != made[2]


def test_the_control_of_audio_moves_every_sample_that_the_model_gets(
    audio_model: ChatTransformersMultimodal, tmp_path: Path
) -> None:
    one, settings = audio_item(tmp_path, "a"), AttackSettings(epsilon=0.01)
    (moved,) = control_items(audio_model, [one], settings, tmp_path / "attacked")
    before, after = as_model_input(audio_model, read_medium(one.media[0])), read_medium(moved.media[0])
    change = (after.tensor - before.tensor).abs()
    assert (after.sampling_rate, change.shape) == (16_000, before.tensor.shape)
    assert torch.allclose(change, torch.tensor(0.01), atol=2e-5)
