"""Adversarial images of items: made once, stored as PNG files, and reused while what they depend on is unchanged."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import torch
from langchain_core.messages import HumanMessage
from pydantic import Field, JsonValue, model_validator

from smoothguard_guardrail._internal.files import file_sha256, write_atomic
from smoothguard_guardrail.attacks import PGD, Attack, SquareAttack, StraightThrough, Transform
from smoothguard_guardrail.config import MediaLimits, SmoothGuardConfig
from smoothguard_guardrail.core.model_info import ModelInfo
from smoothguard_guardrail.core.model_input import GuardView, ModelInput
from smoothguard_guardrail.errors import ConfigurationError, InputError
from smoothguard_guardrail.evaluation.cache import JsonLinesStore, content_key
from smoothguard_guardrail.evaluation.identity import identify
from smoothguard_guardrail.evaluation.items import Item
from smoothguard_guardrail.evaluation.records import Record
from smoothguard_guardrail.evaluation.shared import resolve_model
from smoothguard_guardrail.media.formats import IMAGE_FORMATS, sniff
from smoothguard_guardrail.media.image import decode_image, encode_png
from smoothguard_guardrail.models.transformers_chat import ChatTransformersMultimodal
from smoothguard_guardrail.perturbations import Compose, GaussianNoise, make_generator

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from smoothguard_guardrail.evaluation.arms import Progress
    from smoothguard_guardrail.evaluation.identity import ModelIdentity
    from smoothguard_guardrail.evaluation.mappers import Mapper

_LEVELS = 255
_ROWS_AT_ONCE = 16  # images times draws: more need more memory and lose more when a run is stopped


class AttackSettings(Record):
    """How each item's first image is attacked, in L-infinity, on the local model itself."""

    method: Literal["pgd", "square"] = "pgd"
    """`square` uses losses only, no gradient."""
    epsilon: float = Field(gt=0, le=1)
    """Radius, of values in [0, 1], such as 16/255."""
    num_steps: int = Field(default=100, ge=1)
    step_size: float | None = Field(default=None, gt=0)
    """Length of a step; None: `epsilon / 4`."""
    momentum: float = Field(default=0.5, ge=0, lt=1)
    step_decay: bool = False
    """Whether steps shrink to a tenth, so that an attack through a guard settles."""
    random_start: bool = False
    target: str | None = None
    """The answer to bring about, for every item; None: the `target` among the item's details, or without one away
    from the model's own answer."""
    through: SmoothGuardConfig | None = None
    """The guard whose perturbation the gradient is averaged over (EOT): the attacker knows the guard. None: the bare
    model is attacked."""
    num_draws: int = Field(default=16, ge=1)
    """Draws of the perturbation per step, with `through`."""
    straight_through: bool = False
    """With `through`: whether clipping passes the gradient as if it did nothing (BPDA)."""
    seed: int = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.method == "square" and self.through is not None:
            raise ValueError("through: the method square has no gradient to average; leave it out")
        return self

    @property
    def draws_per_step(self) -> int:
        """Gradients per step: `num_draws` with `through`, otherwise 1."""
        return 1 if self.through is None else self.num_draws

    def target_of(self, item: Item) -> str | None:
        """Return the answer to bring about for an item; None: away from the model's own."""
        target = self.target or item.details.get("target")
        return None if target is None else str(target)

    def build(self, model: ChatTransformersMultimodal, *, targeted: bool) -> Attack:
        """Return the attack on a model."""
        options: dict[str, Any] = {"num_steps": self.num_steps, "seed": self.seed, "targeted": targeted}
        if self.method == "square":
            return SquareAttack(self.epsilon, **options)
        return PGD(
            self.epsilon,
            step_size=self.step_size,
            momentum=self.momentum,
            step_decay=self.step_decay,
            random_start=self.random_start,
            transform=self._transform(ModelInfo.find(model)),
            num_draws=self.draws_per_step,
            **options,
        )

    def _transform(self, info: ModelInfo) -> Transform | None:
        if self.through is None or not self.straight_through:
            return None if self.through is None else GuardView(config=self.through, model_info=info)
        perturb = ModelInput(config=self.through, model_info=info).image_perturber()
        unclipped = tuple(
            replace(part, bounds=(-torch.inf, torch.inf)) if isinstance(part, GaussianNoise) else part
            for part in perturb.parts
        )
        return StraightThrough(perturb, surrogate=Compose(unclipped))


class _Attacked(NamedTuple):
    """A PNG's content, the answer that was aimed at or away from, and its loss in nats per token."""

    png: bytes
    target: str
    loss: float


def image_perturbation(config: SmoothGuardConfig) -> dict[str, Any]:
    """Return the settings that say how images are perturbed: what adaptive attacks depend on."""
    return config.model_dump(mode="json", include={"sigma", "noise_space", "image"})


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
    batch_size: int | None = None,
) -> dict[str, Path]:
    """Attack the first image of every item that has one, and return the files by item id.

    Images of one size are attacked together. A stored image is reused if model, settings, question, target and
    original are the same.

    Args:
        model: A local model, or its name for `load_model`: an attack needs its gradient.
        items: What is asked.
        settings: How to attack.
        folder: Where the PNG files go.
        mapper: Where the work runs; None: in this thread.
        progress: Called after each batch.
        identity: Of the model; None: found out.
        shares_folder: Whether other attacks on these items use the folder, too: files are then named by all that
            they depend on, and otherwise `<item id>.png`.
        batch_size: Images attacked at once; other sizes may round differently. None: as many as fit 16 rows.

    Raises:
        ConfigurationError: The model is not local, no item has an image, or an id cannot name a file.
        InputError: An image cannot be read.
        MediaError: An image is damaged or too large.
        MissingDependencyError: The model's image processor keeps no gradient without torchvision.
    """
    with_image = [item for item in items if item.media]
    if not with_image:
        raise ConfigurationError("expected items with an image to attack, got none")
    identity = identity or identify(model, memory=folder / "fingerprints.json")
    store = JsonLinesStore(folder / "attacked.jsonl")
    keys = {item.id: _key(item, settings, identity) for item in with_image}
    files = {item.id: attacked_file(folder, keys[item.id][:24] if shares_folder else item.id) for item in with_image}
    missing = [item for item in with_image if not _is_there(store.get(keys[item.id]), files[item.id])]
    done, batches = len(with_image) - len(missing), _batches(missing, settings, batch_size)
    attack = partial(_attack, model, settings)
    for index, found in enumerate(map(attack, batches)) if mapper is None else mapper(attack, batches):
        for item, each in zip(batches[index], found, strict=True):
            write_atomic(files[item.id], each.png)
            digest = hashlib.sha256(each.png).hexdigest()
            store.put(keys[item.id], {"item": item.id, "sha256": digest, "loss": each.loss, "target": each.target})
        done += len(found)
        if progress is not None:
            progress(done, len(with_image))
    return files


def control_items(items: Sequence[Item], settings: AttackSettings, folder: Path) -> list[Item]:
    """Return items with every value of their images moved by epsilon up or down at random: the control of an attack.

    Raises:
        InputError: An image cannot be read.
        MediaError: An image is damaged or too large.
    """
    found = []
    for item in items:
        what = settings.model_dump(include={"epsilon", "seed"}) | {"image": file_sha256(item.media[0])}
        file = folder / f"control-{content_key(**what)[:24]}.png"
        if not file.exists():
            image = read_image(item.media[0])
            signs = torch.randint(0, 2, image.shape, generator=make_generator(settings.seed)) * 2.0 - 1
            write_atomic(file, encode_png(image + settings.epsilon * signs))
        found.append(item.model_copy(update={"media": (file,)}))
    return found


def attacked_file(folder: Path, item_id: str) -> Path:
    """Return where an item's attacked image is stored.

    Raises:
        ConfigurationError: The id leads out of the folder.
    """
    name = PurePosixPath(f"{item_id}.png")
    if name.is_absolute() or ".." in name.parts:
        raise ConfigurationError(f"the item {item_id!r} leads out of the folder of attacked images")
    return folder / name


def attacked_files(folder: Path, items: Sequence[Item]) -> Mapping[str, Path]:
    """Return attacked images made elsewhere, at `<item id>.png` in a folder.

    Raises:
        InputError: Images are missing.
    """
    files = {item.id: attacked_file(folder, item.id) for item in items if item.media}
    missing = [path for path in files.values() if not path.is_file()]
    if missing:
        raise InputError(f"{len(missing)} of {len(files)} attacked images are missing, such as {missing[0]}")
    return files


def read_image(path: Path) -> torch.Tensor:
    """Return an image as the guard decodes it, in 8-bit steps: float32 (3, height, width) in [0, 1].

    Raises:
        InputError: It cannot be read, or is not an image.
        MediaError: It is damaged or too large.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    sniffed = sniff(data)
    if sniffed is None or sniffed.mime_type not in IMAGE_FORMATS:
        raise InputError(f"{path}: expected an image of a known format")
    pixels = decode_image(data, mime_type=sniffed.mime_type, limits=MediaLimits(), path=str(path)).unit
    return pixels.mul(_LEVELS).round_().div_(_LEVELS)


def _key(item: Item, settings: AttackSettings, identity: ModelIdentity) -> str:
    through = settings.through
    return content_key(
        settings=settings.model_dump(mode="json", exclude={"target", "through", "num_draws"}),
        num_draws=through and settings.num_draws,
        through=through and image_perturbation(through),
        model=identity.key,
        image=file_sha256(item.media[0]),
        question=item.question,
        target=settings.target_of(item),
    )


def _is_there(known: JsonValue, file: Path) -> bool:
    return isinstance(known, dict) and file.is_file() and file_sha256(file) == known.get("sha256")


def _batches(items: Sequence[Item], settings: AttackSettings, batch_size: int | None) -> list[list[Item]]:
    """Return the items in batches of one image size that are either all aimed at a target or all not."""
    size = batch_size or max(1, _ROWS_AT_ONCE // settings.draws_per_step)
    shapes = {path: read_image(path).shape for path in dict.fromkeys(item.media[0] for item in items)}
    alike: dict[Any, list[Item]] = {}
    for item in items:
        alike.setdefault((shapes[item.media[0]], settings.target_of(item) is None), []).append(item)
    return [group[start : start + size] for group in alike.values() for start in range(0, len(group), size)]


def _attack(model: BaseChatModel | str, settings: AttackSettings, items: Sequence[Item]) -> list[_Attacked]:
    """Attack one batch; runs in a worker."""
    chat = resolve_model(model)
    if not isinstance(chat, ChatTransformersMultimodal):
        raise ConfigurationError(f"expected a local model, whose gradient an attack needs, got {model}")
    images = torch.stack([read_image(item.media[0]) for item in items])
    wanted = [settings.target_of(item) for item in items]
    targets = [
        _own_answer(chat, item.question, image) if target is None else target
        for item, image, target in zip(items, images, wanted, strict=True)
    ]
    attack = settings.build(chat, targeted=None not in wanted)
    result = attack(chat, images, [item.question for item in items], targets)
    found = zip(result.images, targets, result.loss.tolist(), strict=True)
    return [_Attacked(png=encode_png(image), target=target, loss=loss) for image, target, loss in found]


def _own_answer(chat: BaseChatModel, question: str, image: torch.Tensor) -> str:
    message = HumanMessage(content=[{"type": "image", "image": image}, {"type": "text", "text": question}])
    return str(chat.invoke([message]).text)
