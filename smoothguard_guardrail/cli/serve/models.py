"""Which models a server has, under which names, and with which guards."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from smoothguard_guardrail.cli import loading, presets
from smoothguard_guardrail.cli.command_settings import ServedModel
from smoothguard_guardrail.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from smoothguard_guardrail.hosts.runnable import SmoothGuardRunnable

_NAMED = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)=(?P<model>.+)")


def served_models(
    options: Sequence[str], name: str | None, from_file: Mapping[str, ServedModel]
) -> dict[str, ServedModel]:
    """Return the models of a server by the names that clients use; the shipped model if none is given.

    Args:
        options: Of `--model`: MODEL or NAME=MODEL.
        name: The name of the only MODEL.
        from_file: The models of a settings file.

    Raises:
        ConfigurationError: Two models have the same name, or `name` is for several.

    Example:
        >>> list(served_models(["openai:gpt-4o", "small=hf:models/smolvlm"], None, {}))
        ['gpt-4o', 'small']
    """
    given = list(options) or ([] if from_file else ["reference"])
    if name is not None and len(given) != 1:
        raise ConfigurationError(f"--name names one --model, got {len(given)}: write --model NAME=MODEL instead")
    models = dict(from_file)
    for option in given:
        named = _NAMED.fullmatch(option)
        model = named["model"] if named else option
        its_name = name or (named["name"] if named else served_name(model))
        if its_name in models:
            raise ConfigurationError(f"two models are called {its_name}: write --model NAME=MODEL with another name")
        models[its_name] = ServedModel(model=model)
    return models


def served_name(model: str) -> str:
    """Return a model's own name for clients: the last part of its `--model` value.

    Example:
        >>> served_name("openai:gpt-4o"), served_name("hf:models/llava-1.5-7b/"), served_name("reference")
        ('gpt-4o', 'llava-1.5-7b', 'reference')
    """
    kind, _, rest = model.partition(":")
    return (rest or kind).rstrip("/").rpartition("/")[2] or kind


def with_options(model: ServedModel, for_all: Mapping[str, Any], command_line: Mapping[str, Any]) -> ServedModel:
    """Return a model with what concerns all models.

    Args:
        model: The model, whose guard's settings win over `for_all`.
        for_all: Settings of every guard, from a settings file.
        command_line: Fields of every model, which win over all else; those that are None do not count.
    """
    given = {name: value for name, value in command_line.items() if value is not None}
    if given.keys() & {"preset", "config"}:
        given = {"preset": None, "config": None} | given
    guard = presets.merged(for_all, model.guard, command_line["guard"])
    return model.model_copy(update=given | {"guard": guard})


def build_guards(models: Mapping[str, ServedModel]) -> dict[str, SmoothGuardRunnable]:
    """Load the models, each once, and return their guards."""
    from smoothguard_guardrail.hosts.runnable import SmoothGuardRunnable

    configs = {
        name: presets.chosen_config(model.model, model.preset, model.config, **model.guard)
        for name, model in models.items()
    }
    loaded = {model: loading.load_model(model) for model in dict.fromkeys(each.model for each in models.values())}
    guards = {}
    for name, model in models.items():
        chat = loaded[model.model]
        asked = chat if model.temperature is None else chat.bind(temperature=model.temperature)
        guards[name] = SmoothGuardRunnable(asked, config=configs[name])
    return guards
