"""Arms: the same items, asked of the same model, bare or through guards, on clean and on attacked media."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoothguard_guardrail._internal.files import file_sha256
from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.core.components import GuardComponents
from smoothguard_guardrail.errors import ConfigurationError, InputError
from smoothguard_guardrail.evaluation.cache import JsonLinesStore, content_key
from smoothguard_guardrail.evaluation.identity import ModelIdentity, identify
from smoothguard_guardrail.evaluation.items import Answer, Item
from smoothguard_guardrail.evaluation.mappers import Mapper
from smoothguard_guardrail.evaluation.replay import item_seed
from smoothguard_guardrail.evaluation.tasks import Task, answer

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

Progress = Callable[[int, int], None]
"""Called with the number of answers so far and the total."""

_GIVE_UP_AFTER = 20  # failures in a row from the start, with no answer among them
# Settings that do not change the answers.
_IGNORED = {"seed", "max_concurrency", "record_samples", "trace_samples"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One way of asking all items.

    Attributes:
        name: Unique among the arms.
        items: What is asked. Compared arms have the same ids; an adversarial arm's items have other media.
        config: The guard's; None: the bare model. Its seed does not matter, each item gets its own.
        components: The user's components.
        components_name: Identifies the components: stored answers are found by it, so change it whenever they change.
    """

    name: str
    items: Sequence[Item]
    config: SmoothGuardConfig | None = None
    components: GuardComponents | None = None
    components_name: str = ""


def run_arms(
    model: str | BaseChatModel,
    arms: Sequence[Arm],
    *,
    folder: Path,
    mapper: Mapper,
    seed: int,
    progress: Progress | None = None,
    identity: ModelIdentity | None = None,
) -> dict[str, dict[str, Answer]]:
    """Ask every item of every arm, and store each answer in `folder` as it arrives.

    A stopped run resumes where it was; nothing is asked twice in any arm. The noise of an item has the seed
    `item_seed(seed, item.id)` in every arm. A failure is recorded in its answer but not stored, so the next run
    tries again.

    Args:
        model: A name for `load_model`, which each worker process loads once, or a chat model, which needs `InThreads`.
        arms: What to ask.
        folder: Where `answers.jsonl` is stored.
        mapper: Where the work runs.
        seed: Of the noise.
        progress: Called after each answer.
        identity: Which model this is, for an object that cannot be identified; None: `identify(model)`.

    Returns:
        Answers by arm and item id.

    Raises:
        ConfigurationError: Names or ids are not unique, the model or a guard cannot be set up, or every call of an arm
            failed.
        MissingDependencyError: A package is missing.
        AdapterError: A component broke its protocol.
    """
    _check(arms)
    store = JsonLinesStore(folder / "answers.jsonl")
    identity = _at_device(identity or identify(model, memory=folder / "fingerprints.json"), model)
    tasks: dict[str, Task] = {}
    places = [(arm, item, _add(tasks, arm, item, identity, seed)) for arm in arms for item in arm.items]
    found = {key: Answer.model_validate(value) for key in tasks if (value := store.get(key)) is not None}
    missing = [key for key in tasks if key not in found]
    failures: list[Answer] = []
    for done, (index, got) in enumerate(mapper(partial(answer, model), [tasks[key] for key in missing]), start=1):
        found[missing[index]] = got
        if got.error is None:
            store.put(missing[index], got.model_dump(mode="json"))
        else:
            failures.append(got)
        if len(failures) == done >= _GIVE_UP_AFTER:
            raise ConfigurationError(f"the first {done} questions all failed, the first with {failures[0].error}")
        if progress is not None:
            progress(len(tasks) - len(missing) + done, len(tasks))
    if len(found) < len(tasks):
        raise ConfigurationError("the mapper left a question out: it must yield every task's index and result")
    answers: dict[str, dict[str, Answer]] = {arm.name: {} for arm in arms}
    for arm, item, key in places:
        answers[arm.name][item.id] = found[key].model_copy(update={"item_id": item.id})
    _check_answers(answers)
    return answers


def sweep(config: SmoothGuardConfig, values: Mapping[str, Sequence[Any]]) -> dict[str, SmoothGuardConfig]:
    """Return a configuration for every combination of values, by a name that lists them.

    Args:
        config: The other settings.
        values: Values by setting, such as `{"sigma": (0.05, 0.1), "image.max_shift": (0, 5)}`.

    Raises:
        ConfigurationError: A setting is unknown or a value invalid.

    Example:
        >>> list(sweep(SmoothGuardConfig(), {"sigma": (0.1, 0.2), "image.max_shift": (3,)}))
        ['sigma=0.1, image.max_shift=3', 'sigma=0.2, image.max_shift=3']
    """
    combinations = [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]
    return {
        ", ".join(f"{setting}={value}" for setting, value in changes.items()): reduce(_set, changes.items(), config)
        for changes in combinations
        if changes
    }


def _set(config: SmoothGuardConfig, change: tuple[str, Any]) -> SmoothGuardConfig:
    group, _, setting = change[0].rpartition(".")
    return config.override(**({group: {setting: change[1]}} if group else {setting: change[1]}))


def noise_only(config: SmoothGuardConfig) -> SmoothGuardConfig:
    """Return a guard with the same perturbation and a single call: the effect of the noise without a vote."""
    return config.override(
        num_samples=1, include_clean=False, vote={"min_successes": None, "min_agreement": 0.0}, early_stop=None
    )


def with_media(items: Sequence[Item], files: Mapping[str, Path]) -> tuple[Item, ...]:
    """Return the items with their first medium replaced, for example by attacked ones.

    Args:
        items: Items; those without media stay as they are.
        files: The new image or audio by item id.

    Raises:
        ConfigurationError: An item with media has no new one.
    """
    missing = [item.id for item in items if item.media and item.id not in files]
    if missing:
        raise ConfigurationError(f"{len(missing)} of {len(items)} items have no attacked medium, such as {missing[0]}")
    return tuple(
        item.model_copy(update={"media": (files[item.id], *item.media[1:])}) if item.media else item for item in items
    )


def _check(arms: Sequence[Arm]) -> None:
    names = [arm.name for arm in arms]
    if not arms or len(set(names)) < len(names):
        raise ConfigurationError(f"arms must have unique names, got {', '.join(names) or 'no arms'}")
    for arm in arms:
        if not arm.items or len({item.id for item in arm.items}) < len(arm.items):
            raise ConfigurationError(f"arm {arm.name!r} must have at least one item, and unique ids")
        if arm.components is not None and arm.config is None:
            raise ConfigurationError(f"arm {arm.name!r} has components but no config")
        if (arm.components is None) != (not arm.components_name):
            raise ConfigurationError(f"arm {arm.name!r}: give components and components_name together")


def _add(tasks: dict[str, Task], arm: Arm, item: Item, identity: ModelIdentity, seed: int) -> str:
    """Add the task of an item unless an earlier arm has it, and return its key."""
    config = None
    if arm.config is not None:
        config = arm.config.override(seed=item_seed(seed, item.id), record_samples=True)
    key = _key(arm, item, config, identity)
    tasks.setdefault(key, Task(item=item, config=config, components=arm.components))
    return key


def _key(arm: Arm, item: Item, config: SmoothGuardConfig | None, identity: ModelIdentity) -> str:
    from smoothguard_guardrail import __version__

    try:
        media = [file_sha256(path) for path in item.media]
    except InputError:  # asked anyway, so that the answer records the failure
        media = [str(path) for path in item.media]
    return content_key(
        model=identity.key,
        question=item.question,
        media=media,
        config=None if config is None else config.model_dump(mode="json", exclude=_IGNORED),
        components=arm.components_name,
        seed=None if config is None else config.seed,
        version=__version__,
    )


def _at_device(identity: ModelIdentity, model: str | BaseChatModel) -> ModelIdentity:
    """Return the identity of a local model with its accelerator, where dtype and sums differ from the CPU."""
    if isinstance(model, str):
        if model != "reference" and not model.startswith("hf:"):
            return identity
        from smoothguard_guardrail.models.loading import pick_device

        kind = pick_device("auto").type
    else:
        kind = str(getattr(getattr(getattr(model, "engine", None), "device", None), "type", "cpu"))
    if kind == "cpu":
        return identity
    return identity.model_copy(update={"settings": identity.settings | {"device": kind}})


def _check_answers(answers: Mapping[str, Mapping[str, Answer]]) -> None:
    for name, by_id in answers.items():
        if all(each.error is not None for each in by_id.values()):
            first = next(iter(by_id.values()))
            raise ConfigurationError(f"all {len(by_id)} questions of arm {name!r} failed, the first with {first.error}")
