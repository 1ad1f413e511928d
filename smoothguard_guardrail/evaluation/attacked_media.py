"""Adversarial images and audio of items: made once, stored as files, reused while what they depend on is unchanged."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from langchain_core.messages import HumanMessage
from pydantic import JsonValue

from smoothguard_guardrail._internal.files import file_sha256, write_atomic
from smoothguard_guardrail.attacks import TargetLoss, WaveformLoss
from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.errors import ConfigurationError, InputError
from smoothguard_guardrail.evaluation.attackers import AttackSettings
from smoothguard_guardrail.evaluation.cache import JsonLinesStore, content_key
from smoothguard_guardrail.evaluation.identity import identify
from smoothguard_guardrail.evaluation.input_media import InputMedium, MediumKind, as_model_input, kind_of, read_medium
from smoothguard_guardrail.evaluation.items import Item
from smoothguard_guardrail.evaluation.mappers import InThreads
from smoothguard_guardrail.evaluation.shared import resolve_model
from smoothguard_guardrail.models.transformers_chat import ChatTransformersMultimodal
from smoothguard_guardrail.perturbations import make_generator

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from smoothguard_guardrail.evaluation.arms import Progress
    from smoothguard_guardrail.evaluation.identity import ModelIdentity
    from smoothguard_guardrail.evaluation.mappers import Mapper

SUFFIX: dict[MediumKind, str] = {"image": ".png", "audio": ".wav"}
"""Of attacked files."""
_ROWS_AT_ONCE = 16  # images times draws: more need more memory and lose more when a run is stopped


class _Attacked(NamedTuple):
    """A file's content, the answer that was aimed at or away from, and its loss in nats per token."""

    content: bytes
    target: str
    loss: float


def perturbation(config: SmoothGuardConfig, kind: MediumKind = "image") -> dict[str, Any]:
    """Return the settings that say how media of a kind are perturbed: what adaptive attacks depend on."""
    names = {"image": {"sigma", "noise_space", "image"}, "audio": {"audio"}}
    return config.model_dump(mode="json", include=names[kind])


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
    """Attack the first medium of every item that has one, and return the files by item id.

    Images of one size, and audio of one length, are attacked together. A stored file is reused if model, settings,
    question, target and original are the same.

    Args:
        model: A local model, or its name for `load_model`: an attack needs its gradient.
        items: What is asked.
        settings: How to attack.
        folder: Where the files go: PNG, and 16-bit WAV at the model's rate.
        mapper: Where the work runs; None: in this thread.
        progress: Called after each batch.
        identity: Of the model; None: found out.
        shares_folder: Whether other attacks on these items use the folder, too: files are then named by all that
            they depend on, and otherwise `<item id>.png` or `.wav`.
        batch_size: Media attacked at once; other sizes may round differently. None: as many as fit 16 rows.

    Raises:
        ConfigurationError: The model is not local, no item has a medium, an id cannot name a file, or the settings are
            for images only.
        InputError: A file cannot be read.
        MediaError: A medium is damaged or too large.
        UnsupportedMediaError: The model does not take such a medium.
        MissingDependencyError: The model's image processor keeps no gradient without torchvision.
    """
    with_media = [item for item in items if item.media]
    if not with_media:
        raise ConfigurationError("expected items with an image or audio to attack, got none")
    identity = identity or identify(model, memory=folder / "fingerprints.json")
    store = JsonLinesStore(folder / "attacked.jsonl")
    keys = {item.id: _key(item, settings, identity) for item in with_media}
    files = {
        item.id: attacked_file(folder, item, name=keys[item.id][:24] if shares_folder else None) for item in with_media
    }
    missing = [item for item in with_media if not _is_there(store.get(keys[item.id]), files[item.id])]
    done, batches = len(with_media) - len(missing), _batches(missing, settings, batch_size)
    # Other processes end at once when a run is stopped, and may not see this folder.
    checkpoints = folder if mapper is None or isinstance(mapper, InThreads) else None
    attack = partial(_attack, model, settings, identity, checkpoints)
    for index, found in enumerate(map(attack, batches)) if mapper is None else mapper(attack, batches):
        for item, each in zip(batches[index], found, strict=True):
            write_atomic(files[item.id], each.content)
            digest = hashlib.sha256(each.content).hexdigest()
            store.put(keys[item.id], {"item": item.id, "sha256": digest, "loss": each.loss, "target": each.target})
        done += len(found)
        if progress is not None:
            progress(done, len(with_media))
    return files


def control_items(
    model: BaseChatModel | str, items: Sequence[Item], settings: AttackSettings, folder: Path
) -> list[Item]:
    """Return items with every value of their media moved by epsilon up or down at random: the control of an attack.

    Audio is changed as the model gets it: one channel at its rate.

    Raises:
        InputError: A file cannot be read.
        MediaError: A medium is damaged or too large.
        UnsupportedMediaError: The model does not take such a medium.
    """
    found = []
    for item in items:
        kind = kind_of(item.media[0])
        what = settings.model_dump(include={"epsilon", "seed"}) | {"image": file_sha256(item.media[0])}
        file = folder / f"control-{content_key(**what)[:24]}{SUFFIX[kind]}"
        if not file.exists():
            medium = read_medium(item.media[0])
            if kind == "audio":
                medium = as_model_input(_local(model), medium)
            signs = torch.randint(0, 2, medium.tensor.shape, generator=make_generator(settings.seed)) * 2.0 - 1
            write_atomic(file, medium.encode(medium.tensor + settings.epsilon * signs))
        found.append(item.model_copy(update={"media": (file,)}))
    return found


def attacked_file(folder: Path, item: Item, *, name: str | None = None) -> Path:
    """Return where an item's attacked medium is stored: `<item id>.png`, or `.wav` for audio, or under another name.

    Raises:
        ConfigurationError: The id leads out of the folder.
        InputError: The item's file cannot be read, or is neither an image nor audio.
    """
    path = PurePosixPath(f"{name or item.id}{SUFFIX[kind_of(item.media[0])]}")
    if path.is_absolute() or ".." in path.parts:
        raise ConfigurationError(f"the item {item.id!r} leads out of the folder of attacked media")
    return folder / path


def attacked_files(folder: Path, items: Sequence[Item]) -> Mapping[str, Path]:
    """Return attacked media made elsewhere, at `<item id>.png`, or `<item id>.wav` for audio, in a folder.

    Raises:
        InputError: Files are missing.
    """
    files = {item.id: attacked_file(folder, item) for item in items if item.media}
    missing = [path for path in files.values() if not path.is_file()]
    if missing:
        raise InputError(f"{len(missing)} of {len(files)} attacked files are missing, such as {missing[0]}")
    return files


def _key(item: Item, settings: AttackSettings, identity: ModelIdentity) -> str:
    through = settings.through
    return content_key(
        settings=settings.model_dump(mode="json", exclude={"target", "through", "num_draws"}),
        num_draws=through and settings.num_draws,
        through=through and perturbation(through, kind_of(item.media[0])),
        model=identity.key,
        image=file_sha256(item.media[0]),
        question=item.question,
        target=settings.target_of(item),
    )


def _is_there(known: JsonValue, file: Path) -> bool:
    return isinstance(known, dict) and file.is_file() and file_sha256(file) == known.get("sha256")


def _batches(items: Sequence[Item], settings: AttackSettings, batch_size: int | None) -> list[list[Item]]:
    """Return the items in batches of one kind and size that are either all aimed at a target or all not."""
    size = batch_size or max(1, _ROWS_AT_ONCE // settings.draws_per_step)
    shapes = {path: _shape(read_medium(path)) for path in dict.fromkeys(item.media[0] for item in items)}
    alike: dict[Any, list[Item]] = {}
    for item in items:
        alike.setdefault((shapes[item.media[0]], settings.target_of(item) is None), []).append(item)
    return [group[start : start + size] for group in alike.values() for start in range(0, len(group), size)]


def _shape(medium: InputMedium) -> tuple[object, ...]:
    return medium.kind, medium.tensor.shape, medium.sampling_rate


def _attack(
    model: BaseChatModel | str,
    settings: AttackSettings,
    identity: ModelIdentity,
    checkpoints: Path | None,
    items: Sequence[Item],
) -> list[_Attacked]:
    """Attack one batch; runs in a worker. With a folder for it, the state of a stopped attack is kept there."""
    chat = _local(model)
    media = [as_model_input(chat, read_medium(item.media[0])) for item in items]
    questions, wanted = [item.question for item in items], [settings.target_of(item) for item in items]
    targets = [
        _own_answer(chat, item.question, medium) if target is None else target
        for item, medium, target in zip(items, media, wanted, strict=True)
    ]
    attack = settings.build(chat, targeted=None not in wanted, medium=media[0])
    originals = torch.stack([medium.tensor for medium in media]).to(chat.engine.device)
    inputs = content_key(rows=[_key(item, settings, identity) for item in items], targets=targets)
    if checkpoints is not None:
        checkpoints.mkdir(parents=True, exist_ok=True)
    result = attack.run(
        _objective(chat, media[0].kind, originals, questions, targets),
        originals,
        checkpoint=checkpoints and checkpoints / f"{inputs[:24]}.checkpoint.pt",
        inputs=inputs,
    )
    found = zip(media, result.images.cpu(), targets, result.loss.tolist(), strict=True)
    return [
        _Attacked(content=medium.encode(values), target=target, loss=loss) for medium, values, target, loss in found
    ]


def _objective(
    chat: ChatTransformersMultimodal,
    kind: MediumKind,
    originals: torch.Tensor,
    questions: Sequence[str],
    targets: Sequence[str],
) -> TargetLoss | WaveformLoss:
    if kind == "image":
        return TargetLoss(chat, originals, questions, targets)
    return WaveformLoss(chat, originals[:, 0], questions, targets)


def _local(model: BaseChatModel | str) -> ChatTransformersMultimodal:
    chat = resolve_model(model)
    if not isinstance(chat, ChatTransformersMultimodal):
        raise ConfigurationError(f"expected a local model, whose gradient an attack needs, got {model}")
    return chat


def _own_answer(chat: BaseChatModel, question: str, medium: InputMedium) -> str:
    return str(chat.invoke([HumanMessage(content=[medium.block, {"type": "text", "text": question}])]).text)
