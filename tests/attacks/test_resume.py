from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from smoothguard_guardrail.attacks import PGD, AttackProgress, SquareAttack, UniversalPGD, checkpoint
from smoothguard_guardrail.errors import ConfigurationError
from smoothguard_guardrail.models import ChatTransformersMultimodal
from tests.attacks.smooth import Waves, noise, random_images
from tests.models import tiny

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from smoothguard_guardrail.attacks import Attack, AttackResult

NUM_STEPS = 12
COMMON: dict[str, Any] = {"num_steps": NUM_STEPS, "snapshot_steps": [2, 7], "seed": 3}
NOISY: dict[str, Any] = {"random_start": True, "num_restarts": 2, "transform": noise, "num_draws": 2}
ATTACKS: dict[str, Callable[..., Attack]] = {
    "pgd": lambda **options: PGD(0.1, **COMMON | NOISY | options),
    "pgd_l2": lambda **options: PGD(0.8, norm="l2", step_decay=True, **COMMON | options),
    "universal": lambda **options: UniversalPGD(minibatch_size=2, **COMMON | NOISY | options),
    "square": lambda **options: SquareAttack(0.1, success=few, **COMMON | options),
    "square_l2": lambda **options: SquareAttack(0.5, norm="l2", **COMMON | options),
}


class StoppedError(Exception):
    """Stands for anything that ends a process."""


def few(images: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    return images.mean(dim=(1, 2, 3)) < 0.46


def stop_after(step: int) -> Callable[[AttackProgress], None]:
    def stop(progress: AttackProgress) -> None:
        if progress.step == step:
            raise StoppedError

    return stop


def run(attack: Attack, **options: Any) -> AttackResult:
    images = random_images(1) if isinstance(attack, UniversalPGD) else random_images(2)
    return attack.run(Waves((3, 6, 6), num_rows=5), images, num_rows=5, **options)


@pytest.fixture(autouse=True)
def save_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "SAVE_STEPS", 3)


def assert_equal(one: AttackResult, other: AttackResult) -> None:
    assert torch.equal(one.images, other.images)
    assert torch.equal(one.loss, other.loss)
    assert torch.equal(one.history, other.history)
    assert one.snapshots.keys() == other.snapshots.keys()
    assert all(torch.equal(one.snapshots[step], other.snapshots[step]) for step in one.snapshots)
    assert (one.num_queries is None) == (other.num_queries is None)
    if one.num_queries is not None and other.num_queries is not None:
        assert torch.equal(one.num_queries, other.num_queries)


@pytest.mark.parametrize("stopped_at", [1, 3, 8, 11])
@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_a_resumed_run_equals_an_uninterrupted_run(name: str, stopped_at: int, tmp_path: Path) -> None:
    file = tmp_path / "attack.ckpt"
    with pytest.raises(StoppedError):
        run(ATTACKS[name](), checkpoint=file, progress=stop_after(stopped_at))
    assert file.exists() == (stopped_at >= 3)
    steps: list[int] = []
    resumed = run(ATTACKS[name](), checkpoint=file, progress=lambda progress: steps.append(progress.step))
    assert steps[0] == stopped_at - stopped_at % 3 + 1
    assert_equal(resumed, run(ATTACKS[name]()))
    assert list(tmp_path.iterdir()) == []


def test_state_is_saved_after_some_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "SAVE_SECONDS", 0.0)
    with pytest.raises(StoppedError):
        run(ATTACKS["pgd"](), checkpoint=tmp_path / "attack.ckpt", progress=stop_after(1))
    assert [file.name for file in tmp_path.iterdir()] == ["attack.ckpt"]


@pytest.mark.parametrize(
    "other",
    [{"seed": 4}, {"num_steps": 13}, {"momentum": 0.1}, {"targeted": False}, {"transform": None}, {"num_draws": 3}],
)
def test_a_checkpoint_of_other_settings_is_refused(other: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "attack.ckpt"
    with pytest.raises(StoppedError):
        run(ATTACKS["pgd"](), checkpoint=file, progress=stop_after(4))
    with pytest.raises(ConfigurationError, match="other settings or inputs"):
        run(ATTACKS["pgd"](**other), checkpoint=file)
    assert file.exists()


def test_a_checkpoint_of_other_inputs_or_another_model_is_refused(tmp_path: Path) -> None:
    models = [
        ChatTransformersMultimodal.from_pretrained(str(tiny.build_llava(tmp_path / str(seed), seed=seed)), device="cpu")
        for seed in (0, 1)
    ]
    file = tmp_path / "attack.ckpt"
    attack = PGD(8 / 255, num_steps=4, seed=0)
    images, questions, targets = random_images(1, 48), ["Tell me."], ["No."]
    with pytest.raises(StoppedError):
        attack(models[0], images, questions, targets, checkpoint=file, progress=stop_after(3))
    others = [
        (models[1], images, questions, targets),
        (models[0], random_images(1, 48, seed=1), questions, targets),
        (models[0], images, ["Tell."], targets),
        (models[0], images, questions, ["Yes."]),
    ]
    for other in others:
        with pytest.raises(ConfigurationError, match="other settings or inputs"):
            attack(*other, checkpoint=file)
    resumed = attack(models[0], images, questions, targets, checkpoint=file)
    assert_equal(resumed, attack(models[0], images, questions, targets))


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04 cut off"])
def test_a_broken_checkpoint_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "attack.ckpt"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        run(ATTACKS["pgd"](), checkpoint=file)


def test_a_missing_checkpoint_folder_is_refused_before_the_attack(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        run(ATTACKS["pgd"](), checkpoint=tmp_path / "none" / "attack.ckpt")


def test_progress_reports_every_step() -> None:
    seen: list[AttackProgress] = []
    result = run(PGD(0.1, num_steps=5), progress=seen.append)
    assert [each.step for each in seen] == [1, 2, 3, 4, 5]
    assert [each.mean_loss for each in seen] == pytest.approx(result.history.mean(dim=1).tolist())
    best = result.history.cummin(dim=0).values.mean(dim=1).tolist()
    assert [each.best_loss for each in seen] == pytest.approx(best)
    assert seen[-1].eta_seconds == 0
    assert all(each.eta_seconds > 0 for each in seen[:-1])
    assert [each.seconds for each in seen] == sorted(each.seconds for each in seen)


def test_the_digest_depends_on_attributes_and_code() -> None:
    class Blur:
        def __init__(self, sd: float) -> None:
            self.sd = sd

    def scaled(factor: float) -> Callable[[float], float]:
        return lambda value: factor * value

    digest = checkpoint.digest_of
    assert digest({"transform": Blur(1.0)}) == digest({"transform": Blur(1.0)}) != digest({"transform": Blur(2.0)})
    assert digest({"success": scaled(1)}) == digest({"success": scaled(1)}) != digest({"success": scaled(2)})
    assert digest(lambda value: value + 1) != digest(lambda value: value + 2)
