"""Runs a server, and says where it listens and what it serves once it does."""

from __future__ import annotations

import ipaddress
import logging
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import typer
import uvicorn

from smoothguard_guardrail import __version__
from smoothguard_guardrail.serving import connection_protocol

if TYPE_CHECKING:
    from pathlib import Path

    from smoothguard_guardrail.cli.command_settings import ServedModel
    from smoothguard_guardrail.config import SmoothGuardConfig
    from smoothguard_guardrail.hosts.runnable import SmoothGuardRunnable
    from smoothguard_guardrail.serving import ServerSettings

_ON_ABSTAIN = {"refuse": "a refusal", "answer": "the answer anyway", "raise": "an error"}


class AnnouncingServer(uvicorn.Server):
    """A server that prints lines once it listens.

    Args:
        config: uvicorn's configuration.
        announce: Returns the lines for the port that it listens on.
    """

    def __init__(self, config: uvicorn.Config, announce: Callable[[int], list[str]]) -> None:
        super().__init__(config)
        self.announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen."""
        await super().startup(sockets)
        if self.started:
            port = self.servers[0].sockets[0].getsockname()[1]
            typer.echo("\n".join(self.announce(port)), err=True)


def run(
    app: Any, settings: ServerSettings, announce: Callable[[int], list[str]], *, host: str, port: int, shutdown: int
) -> None:
    """Run a server until it is told to stop. On SIGTERM and SIGINT it takes no new connections and finishes requests.

    Args:
        app: The application.
        settings: Its settings.
        announce: Returns the lines to print for the port that it listens on.
        host: Address to listen on.
        port: Port to listen on; 0: any.
        shutdown: Seconds that running requests get at the end.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=connection_protocol(settings),
        timeout_graceful_shutdown=shutdown,
        server_header=False,
    )
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # the lines below say it once
    server = AnnouncingServer(config, announce)
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(1)


def start_lines(
    models: Mapping[str, ServedModel],
    guards: Mapping[str, SmoothGuardRunnable],
    settings: ServerSettings,
    port: int,
    *,
    host: str,
    safety_log: Path | None,
) -> list[str]:
    """Return what a server says when it starts: where clients find it, and what it serves.

    Args:
        models: What is served, by name.
        guards: The guards of these models, by name.
        settings: Of the server.
        port: The port that it listens on.
        host: The address that it listens on.
        safety_log: The file that guarded calls are logged to.
    """
    url = f"http://{_url_host(host)}:{port}"
    rows = [("OpenAI clients", f"base URL {url}/v1"), ("Anthropic clients", f"base URL {url}")]
    rows.append(("playground", f"{url}/"))
    for name, model in models.items():
        rows += [("model", _model_line(name, model)), ("", _guard_line(model, guards[name].config))]
    rows.append(("API key", _key_line(settings, host)))
    rows.append(("safety log", str(safety_log) if safety_log else "none; --safety-log FILE writes one"))
    return [f"SmoothGuard {__version__} listens on {url}", *(f"  {title:<19}{text}" for title, text in rows)]


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _url_host(host: str) -> str:
    """Return what a URL names: this machine's name if it listens on all addresses."""
    address = _address(host)
    if address is not None and address.is_unspecified:
        return socket.gethostname()
    return f"[{host}]" if isinstance(address, ipaddress.IPv6Address) else host


def _model_line(name: str, model: ServedModel) -> str:
    source = "" if name == model.model else f" ({model.model})"
    return f"{name}{source}" + ("" if model.temperature is None else f", temperature {model.temperature:g}")


def _guard_line(model: ServedModel, config: SmoothGuardConfig) -> str:
    default = "reference" if model.model == "reference" else "default"
    source = str(model.config) if model.config else f"preset {model.preset or default}"
    vote = f"below agreement {config.vote.min_agreement:g}: {_ON_ABSTAIN[config.vote.on_abstain]}"
    return f"{source}: up to {config.num_samples} samples, sigma {config.sigma:g}; {vote}"


def _key_line(settings: ServerSettings, host: str) -> str:
    if settings.api_keys:
        return f"required; clients: {', '.join(settings.api_keys)}"
    return "none needed, only this machine connects" if is_loopback(host) else "none needed, though others can connect"
