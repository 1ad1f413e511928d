"""Pictures attacked for a calibration, kept on disk: from the bare model, or through a candidate's own perturbation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from smoothguard_guardrail.attacks import PGD
from smoothguard_guardrail.config import MediaLimits, SmoothGuardConfig
from smoothguard_guardrail.errors import InputError
from smoothguard_guardrail.evaluation.cache import key_of
from smoothguard_guardrail.evaluation.fingerprints import file_sha256
from smoothguard_guardrail.evaluation.items import Item
from smoothguard_guardrail.evaluation.records import Record
from smoothguard_guardrail.evaluation.replay import model_of
from smoothguard_guardrail.media.image import FORMATS, decode_image, encode_image
from smoothguard_guardrail.media.sniff import sniff
from smoothguard_guardrail.perturbation import ModelFacts, at_model_resolution, image_perturber
from smoothguard_guardrail.smoothing import make_generator

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from smoothguard_guardrail.evaluation.identity import ModelIdentity
    from smoothguard_guardrail.evaluation.mapping import Mapper

_LEVELS = 255
_ROWS_AT_ONCE = 32
PERTURBATION = ("sigma", "noise_space", "low_pass", "max_shift", "resize_range", "resolution")
"""What an adaptive attack, and the answers to perturbed pictures, depend on."""


class AttackSettings(Record):
    """How rows are attacked: targeted PGD in L-infinity."""

    epsilon: float
    """Radius, of values in [0, 1]."""
    num_steps: int
    num_draws: int
    """Draws of the perturbation per step of an adaptive attack."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardView:
    """What a model behind a guard sees of pictures: resized as the guard does, then perturbed once each."""

    config: SmoothGuardConfig
    facts: ModelFacts

    def __call__(self, images: torch.Tensor, /, *, generator: torch.Generator) -> torch.Tensor:
        """Return (num_rows, 3, height, width), differentiable in the pictures."""
        fitted = torch.stack([at_model_resolution(image, self.config, self.facts) for image in images])
        return image_perturber(self.config, self.facts)(fitted, generator=generator)


def perturbation_of(config: SmoothGuardConfig) -> dict[str, Any]:
    """Return the knobs that say how pictures are perturbed."""
    return config.model_dump(mode="json", include=set(PERTURBATION))


def attacked_items(
    model: BaseChatModel | str,
    items: Sequence[Item],
    settings: AttackSettings,
    folder: Path,
    *,
    identity: ModelIdentity,
    config: SmoothGuardConfig | None = None,
    mapper: Mapper | None = None,
) -> list[Item]:
    """Attack every item's picture towards its target and return the items with the pictures that were found.

    Args:
        model: A local model, or its name.
        items: Rows with a `target`.
        settings: How.
        folder: Keeps the pictures: what is there is not attacked again.
        identity: Of the model: another one's pictures are not taken for its own.
        config: The guard that the attack goes through, draw by draw; None: the bare model.
        mapper: Where the work runs; None: in this thread.

    Raises:
        InputError: A picture cannot be read.
        ConfigurationError: The model cannot be attacked.
        MissingDependencyError: Its image processor keeps no gradient.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{_key(item, settings, identity, config)}.png" for item in items]
    missing = [(item, file) for item, file in zip(items, files, strict=True) if not file.exists()]
    size = _ROWS_AT_ONCE if config is None else max(1, _ROWS_AT_ONCE // settings.num_draws)
    tasks = list(_groups(missing, size))
    attack = partial(_attack, model, settings, config)
    for _ in map(attack, tasks) if mapper is None else mapper(attack, tasks):
        pass
    return [item.model_copy(update={"media": (file,)}) for item, file in zip(items, files, strict=True)]


def control_items(items: Sequence[Item], settings: AttackSettings, folder: Path) -> list[Item]:
    """Return items with every value of their pictures moved by epsilon up or down, by lot: the control of an attack.

    Raises:
        InputError: A picture cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for item in items:
        what = settings.model_dump(include={"epsilon", "seed"}) | {"picture": file_sha256(item.media[0])}
        file = folder / f"control-{key_of(**what)[:24]}.png"
        if not file.exists():
            picture = read_picture(item.media[0])
            signs = torch.randint(0, 2, picture.shape, generator=make_generator(settings.seed)) * 2.0 - 1
            _write(file, picture + settings.epsilon * signs)
        found.append(item.model_copy(update={"media": (file,)}))
    return found


def _key(item: Item, settings: AttackSettings, identity: ModelIdentity, config: SmoothGuardConfig | None) -> str:
    what = settings.model_dump() | {
        "model": identity.key,
        "picture": file_sha256(item.media[0]),
        "question": item.question,
        "target": item.details["target"],
        "through": None if config is None else perturbation_of(config),
    }
    if config is None:
        del what["num_draws"]
    return key_of(**what)[:24]


def _groups(missing: Sequence[tuple[Item, Path]], size: int) -> list[list[tuple[Item, Path]]]:
    """Return batches of pictures that have one size."""
    by_shape: dict[tuple[int, ...], list[tuple[Item, Path]]] = {}
    for item, file in missing:
        by_shape.setdefault(tuple(read_picture(item.media[0]).shape), []).append((item, file))
    return [rows[start : start + size] for rows in by_shape.values() for start in range(0, len(rows), size)]


def _attack(
    model: BaseChatModel | str,
    settings: AttackSettings,
    config: SmoothGuardConfig | None,
    rows: Sequence[tuple[Item, Path]],
) -> None:
    """Attack one batch; runs where the mapper says."""
    chat: Any = model_of(model)
    attack = PGD(
        settings.epsilon,
        num_steps=settings.num_steps,
        num_draws=settings.num_draws,
        transform=None if config is None else GuardView(config=config, facts=ModelFacts.of(chat)),
        seed=settings.seed,
    )
    found = attack(
        chat,
        torch.stack([read_picture(item.media[0]) for item, _ in rows]),
        [item.question for item, _ in rows],
        [str(item.details["target"]) for item, _ in rows],
    )
    for (_, file), picture in zip(rows, found.images, strict=True):
        _write(file, picture)


def _write(file: Path, picture: torch.Tensor) -> None:
    """Write a PNG, clipped to [0, 1], under another name first: a run that is stopped leaves no half."""
    unfinished = file.with_suffix(".part")
    unfinished.write_bytes(encode_image(picture))
    unfinished.replace(file)


def read_picture(path: Path) -> torch.Tensor:
    """Return a picture as the guard decodes it, in 8-bit steps: float32 (3, height, width) in [0, 1].

    Raises:
        InputError: If it cannot be read, or is no picture.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    sniffed = sniff(data)
    if sniffed is None or sniffed.mime_type not in FORMATS:
        raise InputError(f"{path} is no picture of a known format")
    limit = MediaLimits().max_pixels
    pixels, _ = decode_image(data, mime_type=sniffed.mime_type, max_pixels=limit, path=str(path))
    return pixels.mul(_LEVELS).round_().div_(_LEVELS)
