"""`smoothguard serve`: guarded models as a server for OpenAI's and Anthropic's clients, and LangServe."""

from __future__ import annotations

import ctypes
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from smoothguard_guardrail.cli import loading, presets
from smoothguard_guardrail.cli.failures import exit_codes
from smoothguard_guardrail.errors import ConfigurationError

if TYPE_CHECKING:
    from langchain_core.callbacks import BaseCallbackHandler

_MODEL_HELP = f"{loading.HELP} May be repeated; NAME=MODEL names it for clients. By default `reference`."
_SETTINGS_HELP = "TOML file with a table models.NAME for each model: model, preset, config, temperature, guard."
_PRESET_HELP = f"{presets.HELP} If not given: calibrated for `reference`, default for every other model."
_ON_ABSTAIN_HELP = "If the answers disagree: answer anyway, answer with a refusal, or fail with 422."

_M_ARENA_MAX = -8
"""Of glibc's `mallopt`: the largest number of heaps."""
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


def serve(
    model: Annotated[list[str] | None, typer.Option(help=_MODEL_HELP)] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model for clients; by default its own name.")] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0, help="Temperature of requests that name none; by default the model's own.")
    ] = None,
    settings_file: Annotated[Path | None, typer.Option("--settings", dir_okay=False, help=_SETTINGS_HELP)] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8000,
    api_key_env: Annotated[
        str,
        typer.Option(help="Environment variable with the API key, or several, as KEY or CLIENT:KEY, between commas."),
    ] = "SMOOTHGUARD_API_KEY",
    no_api_key: Annotated[
        bool,
        typer.Option("--no-api-key", help="Listen without an API key on an address that other machines can reach."),
    ] = False,
    preset: Annotated[presets.Preset | None, typer.Option(help=_PRESET_HELP)] = None,
    config_file: Annotated[Path | None, typer.Option("--config", dir_okay=False, help=presets.CONFIG_HELP)] = None,
    num_samples: Annotated[int | None, typer.Option(help="Largest number of model calls per request.")] = None,
    min_agreement: Annotated[float | None, typer.Option(help="Agreement below which the guard abstains.")] = None,
    on_abstain: Annotated[Literal["answer", "refuse", "raise"] | None, typer.Option(help=_ON_ABSTAIN_HELP)] = None,
    allow_urls: Annotated[
        bool, typer.Option("--allow-urls", help="Fetch media from https URLs in requests; public hosts only.")
    ] = False,
    allowed_host: Annotated[
        list[str] | None, typer.Option(help="With --allow-urls: fetch only from this host; may be repeated.")
    ] = None,
    max_concurrency: Annotated[int, typer.Option(min=1, help="Concurrent requests; one more is a 429.")] = 16,
    max_body_mb: Annotated[float, typer.Option(min=0.001, help="MiB of one request; more is a 413.")] = 32.0,
    request_timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for one request; more is a 504.")] = 120.0,
    header_timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds in which a client must send headers; more closes the connection.")
    ] = 10.0,
    body_timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds in which a client must send a body; more is a 408.")
    ] = 60.0,
    max_connections_per_client: Annotated[
        int, typer.Option(min=1, help="Open connections from one address; one more is a 429.")
    ] = 100,
    shutdown_timeout: Annotated[int, typer.Option(min=0, help="Seconds that running requests get at shutdown.")] = 30,
    on_failure: Annotated[
        Literal["error", "refuse"], typer.Option(help="What LangServe routes return if the guard or the model fails.")
    ] = "error",
    litellm_policy: Annotated[
        Literal["perturb", "vote"],
        typer.Option(help="For LiteLLM's guardrail: only perturb, or ask this model in a vote first."),
    ] = "perturb",
    record: Annotated[
        Literal["verdict", "full"],
        typer.Option(help="What clients see of the vote; full helps attackers by trial and error."),
    ] = "verdict",
    safety_log: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Append one JSON line per guarded call to this file.")
    ] = None,
) -> None:
    """Serve guarded models: OpenAI's and Anthropic's APIs, LiteLLM's guardrail API, health and metrics.

    An OpenAI client gets the guard by changing its base URL to http://HOST:PORT/v1, an Anthropic client by changing it
    to http://HOST:PORT.

    Example: smoothguard serve --model openai:gpt-4o --port 8000 --safety-log safety.jsonl
    """
    with exit_codes():
        loading.quiet_libraries()
        from smoothguard_guardrail.serving import ServerSettings, create_app

        keys = _api_keys(api_key_env)
        from pydantic import ValidationError

        from smoothguard_guardrail.cli._settings import load_settings
        from smoothguard_guardrail.cli.command_settings import ServeSettings
        from smoothguard_guardrail.cli.serve import models, start

        is_local = start.is_loopback(host)
        if not (keys or no_api_key or is_local):
            raise ConfigurationError(
                f"an API key is required to listen on {host}, which other machines can reach: "
                f"set ${api_key_env}, or pass --no-api-key"
            )
        try:
            settings = ServerSettings(
                api_keys=keys,
                allowed_hosts=None if keys or not is_local else (*_LOOPBACK_NAMES, host),
                max_concurrency=max_concurrency,
                max_body_bytes=int(max_body_mb * 2**20),
                request_timeout=request_timeout,
                header_timeout=header_timeout,
                body_timeout=body_timeout,
                max_connections_per_client=max_connections_per_client,
                on_failure=on_failure,
                litellm_policy=litellm_policy,
                record=record,
            )
        except ValidationError as error:  # its own text would show the keys
            problems = (f"{'.'.join(map(str, each['loc'][:1]))}: {each['msg']}" for each in error.errors())
            raise ConfigurationError("; ".join(problems)) from None
        _use_one_heap()
        rare, for_all = load_settings(ServeSettings, settings_file, {})
        vote = {"min_agreement": min_agreement, "on_abstain": on_abstain}
        media = {"remote": _remote(allow_urls, allowed_host)}
        guard = presets.merged({"num_samples": num_samples, "vote": vote, "media": media})
        options = {"preset": preset, "config": config_file, "temperature": temperature, "guard": guard}
        given = models.served_models(model or [], name, rare.models)
        served = {its_name: models.with_options(each, for_all, options) for its_name, each in given.items()}
        guards = models.build_guards(served)
        app = create_app(guards, settings=settings, callbacks=_callbacks(safety_log))
        announce = partial(start.start_lines, served, guards, settings, host=host, safety_log=safety_log)
        start.run(app, settings, announce, host=host, port=port, shutdown=shutdown_timeout)


def _use_one_heap() -> None:
    """Make glibc keep one heap for all threads: each of their own would keep memory that was freed."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return
    mallopt(_M_ARENA_MAX, 1)


def _api_keys(variable: str) -> dict[str, list[str]]:
    """Return the keys of an environment variable by client."""
    from smoothguard_guardrail.observability.prometheus import DEFAULT_CLIENT

    found: dict[str, list[str]] = {}
    for each in os.environ.get(variable, "").split(","):
        name, colon, key = each.strip().partition(":")
        if name or colon:
            found.setdefault(name if colon else DEFAULT_CLIENT, []).append(key if colon else name)
    return found


def _remote(allow_urls: bool, hosts: list[str] | None) -> Any:
    from smoothguard_guardrail.config import RemotePolicy

    if hosts and not allow_urls:
        raise ConfigurationError("--allowed-host needs --allow-urls: add it, or remove --allowed-host")
    return RemotePolicy(allow_urls=True, allowed_hosts=tuple(hosts) if hosts else None) if allow_urls else None


def _callbacks(safety_log: Path | None) -> list[BaseCallbackHandler]:
    if safety_log is None:
        return []
    from smoothguard_guardrail.observability.safety_log.handler import SafetyLogHandler

    return [SafetyLogHandler(safety_log)]
