"""Attacked pictures of a benchmark's items: made once each, kept as PNG files, found by item."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pydantic import Field, JsonValue

from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.errors import ConfigurationError, InputError
from smoothguard_guardrail.evaluation.answering import loaded_once
from smoothguard_guardrail.evaluation.cache import KeptLines, key_of
from smoothguard_guardrail.evaluation.fingerprints import file_sha256
from smoothguard_guardrail.evaluation.identity import identify
from smoothguard_guardrail.evaluation.items import Item
from smoothguard_guardrail.evaluation.mapping import Mapper
from smoothguard_guardrail.evaluation.records import Record

if TYPE_CHECKING:
    import torch

    from smoothguard_guardrail.evaluation.running import Progress


class AttackSettings(Record):
    """How each item's first picture is attacked: PGD on the local model itself, in L-infinity."""

    epsilon: float = Field(gt=0, le=1)
    """Radius, of values in [0, 1], as 16/255."""
    num_steps: int = Field(100, ge=1)
    target: str | None = None
    """The answer to bring about, for every item; None: away from the answer that the model gives by itself."""
    through: SmoothGuardConfig | None = None
    """The guard whose perturbation the gradient is averaged over (EOT): the attacker knows the guard. None: the bare
    model is attacked."""
    num_draws: int = Field(16, ge=1)
    """Draws of the perturbation per step, with `through`."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attacked:
    """An attacked picture.

    Attributes:
        png: The file's content.
        loss: Of the target, or of the model's own answer, nats per token.
        target: The answer that was aimed at, or away from.
    """

    png: bytes
    loss: float
    target: str


def attack_items(
    model: str,
    items: Sequence[Item],
    settings: AttackSettings,
    *,
    folder: Path,
    mapper: Mapper,
    progress: Progress | None = None,
) -> dict[str, Path]:
    """Attack the first picture of every item that has one, and return the files by item id.

    A picture that the folder holds is used again if model, settings, question and original are the same.

    Args:
        model: A local model, as `load_model` takes it: an attack needs its gradient.
        items: What is asked.
        settings: How to attack.
        folder: Where the PNG files go, at `<item id>.png`.
        mapper: Where the work runs.
        progress: Told after each picture.

    Raises:
        ConfigurationError: The model is not local, or no item has a picture.
        InputError: A picture cannot be read.
        MissingDependencyError: The model's image processor keeps no gradient without torchvision.
    """
    pictured = [item for item in items if item.media]
    if not pictured:
        raise ConfigurationError("no item has a picture to attack")
    identity = identify(model, memory=folder / "fingerprints.json")
    kept = KeptLines(folder / "attacked.jsonl")
    how = settings.model_dump(mode="json")
    keys = {
        item.id: key_of(model=identity.key, how=how, question=item.question, picture=file_sha256(item.media[0]))
        for item in pictured
    }
    files = {item.id: attacked_file(folder, item.id) for item in pictured}
    missing = [item for item in pictured if not _is_there(kept.get(keys[item.id]), files[item.id])]
    for done, (index, found) in enumerate(mapper(partial(attack, model, settings), missing), start=1):
        key = missing[index].id
        files[key].parent.mkdir(parents=True, exist_ok=True)
        files[key].write_bytes(found.png)
        digest = hashlib.sha256(found.png).hexdigest()
        kept.put(keys[key], {"item": key, "sha256": digest, "loss": found.loss, "target": found.target})
        if progress is not None:
            progress(len(pictured) - len(missing) + done, len(pictured))
    return files


def attack(model: str, settings: AttackSettings, item: Item) -> Attacked:
    """Attack the first picture of one item; runs wherever a mapper runs it.

    Raises:
        ConfigurationError: The model is not local.
        InputError: The picture cannot be read.
    """
    from smoothguard_guardrail.attacks import PGD
    from smoothguard_guardrail.media.image import encode_image
    from smoothguard_guardrail.models.transformers_chat import ChatTransformersMultimodal
    from smoothguard_guardrail.perturbation import ModelFacts, image_perturber

    chat = loaded_once(model)
    if not isinstance(chat, ChatTransformersMultimodal):
        raise ConfigurationError(f"an attack needs the gradient of a local model, and {model} is a provider's")
    transform = None if settings.through is None else image_perturber(settings.through, ModelFacts.of(chat))
    picture = _read(item.media[0])
    target = settings.target or _own_answer(chat, item.question, picture)
    run = PGD(
        settings.epsilon,
        num_steps=settings.num_steps,
        targeted=settings.target is not None,
        seed=settings.seed,
        transform=transform,
        num_draws=settings.num_draws,
    )
    result = run(chat, picture[None], [item.question], [target])
    return Attacked(png=encode_image(result.images[0]), loss=float(result.loss[0]), target=target)


def attacked_file(folder: Path, item_id: str) -> Path:
    """Return where an item's attacked picture lies.

    Raises:
        ConfigurationError: The id leads out of the folder.
    """
    name = PurePosixPath(f"{item_id}.png")
    if name.is_absolute() or ".." in name.parts:
        raise ConfigurationError(f"the item {item_id!r} cannot name a file")
    return folder / name


def attacked_files(folder: Path, items: Sequence[Item]) -> Mapping[str, Path]:
    """Return the attacked pictures that others made, at `<item id>.png` in a folder.

    Raises:
        InputError: Pictures are missing.
    """
    files = {item.id: attacked_file(folder, item.id) for item in items if item.media}
    missing = [path for path in files.values() if not path.is_file()]
    if missing:
        raise InputError(f"{len(missing)} of {len(files)} attacked pictures are missing, as {missing[0]}")
    return files


def _is_there(known: JsonValue, file: Path) -> bool:
    return isinstance(known, dict) and file.is_file() and file_sha256(file) == known.get("sha256")


def _read(path: Path) -> torch.Tensor:
    """Return a picture as float32 (3, height, width) in [0, 1], turned upright."""
    from PIL import Image

    from smoothguard_guardrail.media.image import decode_pillow

    try:
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            return decode_pillow(image)[0]
    except OSError as error:  # Pillow's UnidentifiedImageError is one
        raise InputError(f"{path} is no picture that can be attacked: {error}") from error


def _own_answer(chat: Any, question: str, picture: torch.Tensor) -> str:
    from langchain_core.messages import HumanMessage

    message = HumanMessage(content=[{"type": "image", "image": picture}, {"type": "text", "text": question}])
    return str(chat.invoke([message]).text)
