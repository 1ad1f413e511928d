"""Turns the options of `smoothguard eval run` into arms, a judge and a mapper."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoothguard_guardrail.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from smoothguard_guardrail.config import SmoothGuardConfig
    from smoothguard_guardrail.evaluation.arms import Arm
    from smoothguard_guardrail.evaluation.cache import CacheableJudge, CachedJudge
    from smoothguard_guardrail.evaluation.items import Item
    from smoothguard_guardrail.evaluation.mappers import Mapper

NEED_A_JUDGE = ("llava-bench", "mm-safetybench")
ARMS = ("clean", "noise", "guarded", "paper")
ATTACKED = "adversarial"
_THREADS = 4  # calls to a provider at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The arms, and the swept settings by arm."""

    arms: tuple[Arm, ...]
    swept: dict[str, dict[str, Any]] = field(default_factory=dict)


def plan_arms(
    names: str | None,
    items: Sequence[Item],
    config: SmoothGuardConfig,
    *,
    attacked: Mapping[str, Path] | None,
    sweeps: Sequence[str] = (),
) -> Plan:
    """Return the requested arms.

    Args:
        names: `clean`, `noise`, `guarded`, `paper`, and each of them with `adversarial-` before it (`adversarial` for
            the bare model), separated by commas; None: clean, noise and guarded, and with attacked media adversarial
            and adversarial-guarded.
        items: The benchmark's.
        config: The guard's.
        attacked: Attacked images or audio by item id.
        sweeps: Such as `sigma=0.1,0.2`: the guarded arms again for every combination.

    Raises:
        ConfigurationError: An arm or setting does not exist, or attacked media and arms do not match.
    """
    from smoothguard_guardrail.config import SmoothGuardConfig
    from smoothguard_guardrail.evaluation.arms import Arm, noise_only, sweep

    default = "clean,noise,guarded" + ("" if attacked is None else f",{ATTACKED},{ATTACKED}-guarded")
    wanted = [name.strip() for name in (names or default).split(",") if name.strip()]
    if attacked is not None and not any(name.startswith(ATTACKED) for name in wanted):
        raise ConfigurationError("there are attacked media, but no arm of --arms uses them: add adversarial")
    configs = {"clean": None, "noise": noise_only(config), "guarded": config, "paper": SmoothGuardConfig.paper()}
    settings = dict(parse_sweep(each) for each in sweeps)
    variations = sweep(config, settings)
    arms, swept = [], {}
    for name in wanted:
        shown, kind = _shown(name, items, attacked)
        arms.append(Arm(name=name, items=shown, config=configs[kind]))
        for label, varied in variations.items() if kind == "guarded" else ():
            arms.append(Arm(name=f"{name} {label}", items=shown, config=varied))
            swept[f"{name} {label}"] = {setting: attrgetter(setting)(varied) for setting in settings}
    if sweeps and not swept:
        raise ConfigurationError("--sweep varies the guarded arms, and --arms has none")
    return Plan(arms=tuple(arms), swept=swept)


def _shown(name: str, items: Sequence[Item], attacked: Mapping[str, Path] | None) -> tuple[Sequence[Item], str]:
    from smoothguard_guardrail.evaluation.arms import with_media

    kind = name.removeprefix(ATTACKED).removeprefix("-") if name.startswith(ATTACKED) else name
    kind = kind or "clean"
    if kind not in ARMS or name == f"{ATTACKED}-":
        raise ConfigurationError(f"there is no arm {name!r}; there is {', '.join(ARMS)}, and adversarial-... of each")
    if not name.startswith(ATTACKED):
        return items, kind
    if attacked is None:
        raise ConfigurationError(f"the arm {name!r} needs attacked media: --attacked, or --attack-epsilon")
    return with_media(items, attacked), kind


def parse_sweep(text: str) -> tuple[str, list[Any]]:
    """Read a setting and its values.

    Raises:
        ConfigurationError: The text does not have the form `setting=value,value`.

    Example:
        >>> parse_sweep("sigma=0.1,0.2"), parse_sweep("vote.clusterer=kmeans")
        (('sigma', [0.1, 0.2]), ('vote.clusterer', ['kmeans']))
    """
    setting, _, values = text.partition("=")
    if not setting or not values:
        raise ConfigurationError(f"--sweep {text}: give a setting and its values, such as sigma=0.05,0.1,0.2")
    return setting.strip(), [_value(value.strip()) for value in values.split(",")]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def make_judge(spec: str | None, benchmark: str) -> CacheableJudge | None:
    """Return a benchmark's judge; None if it is scored by labels.

    Raises:
        ConfigurationError: The benchmark needs a judge, or does not work with this one.
    """
    from smoothguard_guardrail.cli import loading
    from smoothguard_guardrail.evaluation.classifier_judge import ClassifierJudge
    from smoothguard_guardrail.evaluation.judges import ChatJudge, RefusalJudge, ReviewJudge

    if benchmark not in NEED_A_JUDGE:
        if spec is not None:
            raise ConfigurationError(f"{benchmark} is scored by its labels: leave --judge out")
        return None
    kind, _, rest = (spec or "").partition(":")
    if spec is None or (benchmark == "llava-bench" and kind != "chat"):
        choices = "chat:PROVIDER:NAME" if benchmark == "llava-bench" else "refusal, classifier:PATH, chat:PROVIDER:NAME"
        raise ConfigurationError(f"{benchmark} needs a judge, --judge {choices}")
    if spec == "refusal":
        return RefusalJudge()
    if kind == "classifier" and rest:
        return ClassifierJudge(rest)
    if kind == "chat" and rest:
        model = loading.load_model(rest)
        return ReviewJudge(model) if benchmark == "llava-bench" else ChatJudge(model)
    raise ConfigurationError(f"--judge {spec}: give refusal, classifier:PATH or chat:PROVIDER:NAME")


def cached_judge(judge: CacheableJudge | None, path: Path | None) -> CachedJudge | CacheableJudge | None:
    """Return a judge that stores and reuses judgements in a file, if there is one.

    Raises:
        InputError: The file cannot be read, or is not a store of judgements.
    """
    from smoothguard_guardrail.evaluation.cache import CachedJudge

    return judge if judge is None or path is None else CachedJudge(judge, path)


def make_mapper(model: str, *, workers: int | None, ray: bool) -> Mapper:
    """Return a mapper: threads for a remote model, processes for a local one, or Ray.

    Raises:
        ConfigurationError: `workers` is less than 1.
        MissingDependencyError: Ray is not installed.
    """
    from smoothguard_guardrail.evaluation.mappers import InProcesses, InThreads

    if workers is not None and workers < 1:
        raise ConfigurationError(f"--workers must be 1 or more, got {workers}")
    if ray:
        from smoothguard_guardrail.evaluation.ray import OnRay

        return OnRay(workers or 1)
    is_local = model == "reference" or model.startswith("hf:")
    if not is_local:
        return InThreads(workers or _THREADS)
    workers = workers or _default_workers()
    return InThreads(1) if workers == 1 else InProcesses(workers)


def _default_workers() -> int:
    """Return one process per core, or one for an accelerator, whose memory several copies of the model would fill."""
    import os

    import torch

    return 1 if torch.cuda.is_available() or torch.backends.mps.is_available() else os.cpu_count() or 1
