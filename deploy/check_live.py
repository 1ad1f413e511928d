"""Asks a real Prometheus that scrapes a real `smoothguard serve` for every panel and every alert rule.

    python -m deploy.check_live

It needs `prometheus` on the path (Debian: apt-get install prometheus). Everything runs on loopback. The exit code is 1
if Prometheus cannot evaluate an expression, or finds no series where the traffic must have made some.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import yaml

from smoothguard_guardrail.models.reference.demo import load_demo

HERE = Path(__file__).parent
KEY = "key-of-the-check"
EMPTY = {"failed: {{error}}"}
"""Legends of series that exist only after something failed that the traffic does not make fail."""


def dashboard_queries() -> list[tuple[str, str]]:
    """Return the legend or title and the expression of every target, with Grafana's variables replaced."""
    dashboard = json.loads((HERE / "grafana-dashboard.json").read_text())
    found = [(panel["title"], target) for panel in dashboard["panels"] for target in panel.get("targets", ())]
    values = {"$__rate_interval": "1m", "$instance": ".*"}
    return [
        (target["legendFormat"] or title, re.sub(r"\$\w+", lambda name: values[name[0]], target["expr"]))
        for title, target in found
    ]


def alert_queries() -> list[tuple[str, str]]:
    """Return the name and the expression of every alert rule."""
    rules = yaml.safe_load((HERE / "alerts.yaml").read_text())
    return [(rule["alert"], rule["expr"]) for group in rules["groups"] for rule in group["rules"]]


def main() -> int:
    """Run the check; returns the exit code."""
    with TemporaryDirectory() as name, _server() as server, _prometheus(Path(name), server) as prometheus:
        for _ in range(4):
            _send_traffic(server)
            time.sleep(3)
        bad = 0
        for legend, expression in [*dashboard_queries(), *alert_queries()]:
            answer = httpx.get(f"{prometheus}/api/v1/query", params={"query": expression}).json()
            found = len(answer["data"]["result"]) if answer["status"] == "success" else answer["error"]
            is_alert = legend.startswith("SmoothGuard")
            is_bad = not isinstance(found, int) or (not found and not is_alert and legend not in EMPTY)
            bad += is_bad
            print(f"{'BAD ' if is_bad else 'ok  '} {found!s:>3}  {legend:<32} {' '.join(expression.split())[:90]}")
        rules = httpx.get(f"{prometheus}/api/v1/rules").json()["data"]["groups"][0]["rules"]
        bad += sum(rule["health"] != "ok" for rule in rules)
        print(f"{len(rules)} rules, health {sorted({rule['health'] for rule in rules})}")
    print(f"{bad} bad" if bad else "all good")
    return int(bad > 0)


def _send_traffic(server: str) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    for picture in load_demo().pictures[-3:]:
        image = next(block for block in picture.message().content_blocks if block["type"] == "image")
        url = f"data:{image['mime_type']};base64,{image['base64']}"
        parts = [{"type": "text", "text": "What is there?"}, {"type": "image_url", "image_url": {"url": url}}]
        for content in (parts, "Hello.", [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]):
            body = {"model": "reference", "messages": [{"role": "user", "content": content}]}
            httpx.post(f"{server}/v1/chat/completions", json=body, headers=headers, timeout=120)


@contextmanager
def _server() -> Iterator[str]:
    port = _free_port()
    command = [sys.executable, "-m", "smoothguard_guardrail.cli", "serve", "--port", str(port)]
    with _running(command, f"http://127.0.0.1:{port}/readyz", env={**os.environ, "SMOOTHGUARD_API_KEY": KEY}) as url:
        yield url.removesuffix("/readyz")


@contextmanager
def _prometheus(folder: Path, server: str) -> Iterator[str]:
    """Run Prometheus on the rules and the configuration of this folder, with this server as its target."""
    config: dict[str, Any] = yaml.safe_load((HERE / "prometheus.yaml").read_text())
    (folder / "key").write_text(KEY)
    config["global"] = {"scrape_interval": "2s", "evaluation_interval": "2s"}
    config["rule_files"] = [str(HERE / "alerts.yaml")]
    (job,) = config["scrape_configs"]
    job["authorization"]["credentials_file"] = str(folder / "key")
    job["static_configs"][0]["targets"] = [server.removeprefix("http://")]
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{_free_port()}"
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    with _running(command, f"http://{address}/-/ready") as url:
        yield url.removesuffix("/-/ready")


@contextmanager
def _running(command: list[str], url: str, env: dict[str, str] | None = None) -> Iterator[str]:
    """Run a process until the block ends; its URL answers 200 when the block begins."""
    process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # noqa: S603
    try:
        for _ in range(600):
            if process.poll() is not None:
                raise SystemExit(f"{command[0]} ended with exit code {process.returncode}")
            try:
                if httpx.get(url).status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())
