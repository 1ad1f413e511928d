"""The real LiteLLM proxy, in an environment of its own, between a client and a model."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

REPOSITORY = Path(__file__).parents[2]
KEY = f"sk-{secrets.token_hex(32)}"
ENVIRONMENT = REPOSITORY / ".venv-litellm"


@contextmanager
def litellm_proxy(model_url: str, guardrails: Mapping[str, dict[str, Any]], folder: Path) -> Iterator[str]:
    """Run the proxy in front of one model, called `model`; yields its URL.

    Args:
        model_url: Base URL of an OpenAI-compatible server.
        guardrails: LiteLLM's parameters of each guardrail, by the name with which clients ask for it.
        folder: For the configuration and the log.
    """
    command = ENVIRONMENT / "bin" / "litellm"
    assert command.exists(), f"LiteLLM's environment is missing: make {ENVIRONMENT.name}/.installed"
    model = {"model": "openai/model", "api_base": model_url, "api_key": "none"}
    config = {
        "litellm_settings": {"num_retries": 0},
        "router_settings": {"num_retries": 0},
        "general_settings": {"master_key": KEY},
        "model_list": [{"model_name": "model", "litellm_params": model}],
        "guardrails": [{"guardrail_name": name, "litellm_params": given} for name, given in guardrails.items()],
    }
    path, log = folder / "config.yaml", folder / "litellm.log"
    path.write_text(json.dumps(config))  # JSON is YAML
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    offline = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True"}
    arguments = [str(command), "--config", str(path), "--host", "127.0.0.1", "--port", str(port)]
    environment = os.environ | offline | {"PYTHONPATH": str(REPOSITORY), "NO_PROXY": "127.0.0.1"}
    with log.open("w") as output, subprocess.Popen(arguments, env=environment, stdout=output, stderr=output) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(process, f"{url}/health/liveliness", log)
            yield url
        finally:
            process.terminate()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    for _ in range(1200):
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"LiteLLM did not start:\n{log.read_text()[-3000:]}")
