"""Attacked pictures of items: made once each, kept as PNG files, used again while what they depend on is the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from langchain_core.messages import HumanMessage
from pydantic import Field, JsonValue

from smoothguard_guardrail._internal.files import file_sha256
from smoothguard_guardrail.attacks import PGD
from smoothguard_guardrail.config import MediaLimits, SmoothGuardConfig
from smoothguard_guardrail.core.model_info import ModelInfo
from smoothguard_guardrail.core.request_perturber import GuardView
from smoothguard_guardrail.errors import ConfigurationError, InputError
from smoothguard_guardrail.evaluation.cache import JsonLinesStore, content_key
from smoothguard_guardrail.evaluation.identity import identify
from smoothguard_guardrail.evaluation.items import Item
from smoothguard_guardrail.evaluation.records import Record
from smoothguard_guardrail.evaluation.shared import resolve_model
from smoothguard_guardrail.media.image import FORMATS, decode_image, encode_image
from smoothguard_guardrail.media.sniff import sniff
from smoothguard_guardrail.perturbations import make_generator

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from smoothguard_guardrail.evaluation.arms import Progress
    from smoothguard_guardrail.evaluation.identity import ModelIdentity
    from smoothguard_guardrail.evaluation.mappers import Mapper

_LEVELS = 255
_ROWS_AT_ONCE = 16  # pictures times draws: more need more memory and lose more when a run is stopped
_PERTURBATION = ("sigma", "noise_space", "low_pass", "max_shift", "resize_range", "resolution")


class AttackSettings(Record):
    """How each item's first picture is attacked: PGD on the local model itself, in L-infinity."""

    epsilon: float = Field(gt=0, le=1)
    """Radius, of values in [0, 1], as 16/255."""
    num_steps: int = Field(default=100, ge=1)
    target: str | None = None
    """The answer to bring about, for every item; None: the `target` among the item's details, or without one away
    from the answer that the model gives by itself."""
    through: SmoothGuardConfig | None = None
    """The guard whose perturbation the gradient is averaged over (EOT): the attacker knows the guard. None: the bare
    model is attacked."""
    num_draws: int = Field(default=16, ge=1)
    """Draws of the perturbation per step, with `through`."""
    seed: int = 0

    def target_of(self, item: Item) -> str | None:
        """Return the answer to bring about for an item; None: away from the model's own."""
        target = self.target or item.details.get("target")
        return None if target is None else str(target)


class _Attacked(NamedTuple):
    """A PNG's content, the answer that was aimed at or away from, and its loss in nats per token."""

    png: bytes
    target: str
    loss: float


def perturbation_of(config: SmoothGuardConfig) -> dict[str, Any]:
    """Return the knobs that say how pictures are perturbed: what adaptive attacks depend on."""
    return config.model_dump(mode="json", include=set(_PERTURBATION))


def attack_items(
    model: BaseChatModel | str,
    items: Sequence[Item],
    settings: AttackSettings,
    *,
    folder: Path,
    mapper: Mapper | None = None,
    progress: Progress | None = None,
    identity: ModelIdentity | None = None,
    shares_folder: bool = False,
) -> dict[str, Path]:
    """Attack the first picture of every item that has one, and return the files by item id.

    Pictures of one size are attacked together. A picture that the folder holds is used again if model, settings,
    question, target and original are the same.

    Args:
        model: A local model, or its name for `load_model`: an attack needs its gradient.
        items: What is asked.
        settings: How to attack.
        folder: Where the PNG files go.
        mapper: Where the work runs; None: in this thread.
        progress: Told after each batch.
        identity: Of the model; None: found out.
        shares_folder: Whether other attacks on these items use the folder, too: files are then named by all that
            they depend on, and otherwise `<item id>.png`.

    Raises:
        ConfigurationError: The model is not local, no item has a picture, or an id cannot name a file.
        InputError: A picture cannot be read.
        MediaError: A picture is damaged or too large.
        MissingDependencyError: The model's image processor keeps no gradient without torchvision.
    """
    pictured = [item for item in items if item.media]
    if not pictured:
        raise ConfigurationError("no item has a picture to attack")
    identity = identity or identify(model, memory=folder / "fingerprints.json")
    kept = JsonLinesStore(folder / "attacked.jsonl")
    keys = {item.id: _key(item, settings, identity) for item in pictured}
    files = {item.id: attacked_file(folder, keys[item.id][:24] if shares_folder else item.id) for item in pictured}
    missing = [item for item in pictured if not _is_there(kept.get(keys[item.id]), files[item.id])]
    done, batches = len(pictured) - len(missing), _batches(missing, settings)
    attack = partial(_attack, model, settings)
    for index, found in enumerate(map(attack, batches)) if mapper is None else mapper(attack, batches):
        for item, each in zip(batches[index], found, strict=True):
            _write(files[item.id], each.png)
            digest = hashlib.sha256(each.png).hexdigest()
            kept.put(keys[item.id], {"item": item.id, "sha256": digest, "loss": each.loss, "target": each.target})
        done += len(found)
        if progress is not None:
            progress(done, len(pictured))
    return files


def control_items(items: Sequence[Item], settings: AttackSettings, folder: Path) -> list[Item]:
    """Return items with every value of their pictures moved by epsilon up or down, by lot: the control of an attack.

    Raises:
        InputError: A picture cannot be read.
        MediaError: A picture is damaged or too large.
    """
    found = []
    for item in items:
        what = settings.model_dump(include={"epsilon", "seed"}) | {"picture": file_sha256(item.media[0])}
        file = folder / f"control-{content_key(**what)[:24]}.png"
        if not file.exists():
            picture = read_image(item.media[0])
            signs = torch.randint(0, 2, picture.shape, generator=make_generator(settings.seed)) * 2.0 - 1
            _write(file, encode_image(picture + settings.epsilon * signs))
        found.append(item.model_copy(update={"media": (file,)}))
    return found


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


def read_image(path: Path) -> torch.Tensor:
    """Return a picture as the guard decodes it, in 8-bit steps: float32 (3, height, width) in [0, 1].

    Raises:
        InputError: It cannot be read, or is no picture.
        MediaError: It is damaged or too large.
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


def _key(item: Item, settings: AttackSettings, identity: ModelIdentity) -> str:
    through = settings.through
    return content_key(
        **settings.model_dump(include={"epsilon", "num_steps", "seed"}),
        num_draws=through and settings.num_draws,
        through=through and perturbation_of(through),
        model=identity.key,
        picture=file_sha256(item.media[0]),
        question=item.question,
        target=settings.target_of(item),
    )


def _is_there(known: JsonValue, file: Path) -> bool:
    return isinstance(known, dict) and file.is_file() and file_sha256(file) == known.get("sha256")


def _batches(items: Sequence[Item], settings: AttackSettings) -> list[list[Item]]:
    """Return the items in batches whose pictures have one size and which are all aimed at a target, or none is."""
    size = max(1, _ROWS_AT_ONCE // (1 if settings.through is None else settings.num_draws))
    shapes = {path: read_image(path).shape for path in dict.fromkeys(item.media[0] for item in items)}
    alike: dict[Any, list[Item]] = {}
    for item in items:
        alike.setdefault((shapes[item.media[0]], settings.target_of(item) is None), []).append(item)
    return [group[start : start + size] for group in alike.values() for start in range(0, len(group), size)]


def _attack(model: BaseChatModel | str, settings: AttackSettings, items: Sequence[Item]) -> list[_Attacked]:
    """Attack one batch; runs wherever a mapper runs it."""
    from smoothguard_guardrail.models.transformers_chat import ChatTransformersMultimodal

    chat = resolve_model(model)
    if not isinstance(chat, ChatTransformersMultimodal):
        raise ConfigurationError(f"an attack needs the gradient of a local model, and {model} is a provider's")
    pictures = torch.stack([read_image(item.media[0]) for item in items])
    wanted = [settings.target_of(item) for item in items]
    targets = [
        _own_answer(chat, item.question, picture) if target is None else target
        for item, picture, target in zip(items, pictures, wanted, strict=True)
    ]
    through = settings.through
    attack = PGD(
        settings.epsilon,
        num_steps=settings.num_steps,
        targeted=None not in wanted,
        seed=settings.seed,
        transform=None if through is None else GuardView(config=through, model_info=ModelInfo.of(chat)),
        num_draws=settings.num_draws,
    )
    result = attack(chat, pictures, [item.question for item in items], targets)
    found = zip(result.images, targets, result.loss.tolist(), strict=True)
    return [_Attacked(png=encode_image(image), target=target, loss=loss) for image, target, loss in found]


def _own_answer(chat: BaseChatModel, question: str, picture: torch.Tensor) -> str:
    message = HumanMessage(content=[{"type": "image", "image": picture}, {"type": "text", "text": question}])
    return str(chat.invoke([message]).text)


def _write(file: Path, png: bytes) -> None:
    """Write under another name first: a run that is stopped leaves no half."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.part")
    unfinished.write_bytes(png)
    unfinished.replace(file)
