"""Many concurrent clients against `smoothguard serve`: checks for lost or mixed-up answers and for memory growth.

`python -m benchmarks.soak [--seconds 60] [--clients 64]` starts the server in its own process, with a scripted model
behind the guard and everything else real: perturbing, encoding, the sentence embedder, the vote. Every request has its
own token and an image in its own shade of grey. The model answers with the token and the shade that it sees, which
reveals an answer to another request or a vote over copies of another request's image. The requests take turns at the
doors of `benchmarks.clients`. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from PIL import Image

from benchmarks.clients import CLIENTS

DOORS = tuple(CLIENTS)
STEP = 16
"""Distance of two shades, in levels of 256: noise changes the mean of an image by less."""
SIDE = 48
MODEL_SECONDS = 0.05


class EchoModel(BaseChatModel):
    """Answers with the token in the text and the shade of the image; has no state."""

    @property
    def _llm_type(self) -> str:
        return "echo"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        blocks: list[Any] = list(messages[-1].content_blocks)
        token = next(block["text"] for block in blocks if block["type"] == "text")
        data = next(block["base64"] for block in blocks if block["type"] == "image")
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            shade = round(float(np.asarray(image).mean()) / STEP)
        answer = AIMessage(expected(token, shade))
        return ChatResult(generations=[ChatGeneration(message=answer)])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        await asyncio.sleep(MODEL_SECONDS)
        return self._generate(messages, stop)


def expected(token: str, shade: int) -> str:
    """Return the correct answer."""
    return f"Token {token}, shade {shade}."


@dataclass(slots=True)
class Tally:
    """The clients' counts."""

    seconds: list[float] = field(default_factory=list)
    doors: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    mixed: int = 0
    lost: Counter[str] = field(default_factory=Counter)


async def ask(http: httpx.AsyncClient, door: str, token: str, shade: int) -> tuple[str, dict[str, Any]]:
    """Send one request; return the answer and the guard's record."""
    file = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), (shade * STEP,) * 3).save(file, "PNG")
    asking = CLIENTS[door]
    body = asking.body(token, base64.b64encode(file.getvalue()).decode())
    return asking.read((await http.post(asking.path, json=body)).raise_for_status())


async def client(http: httpx.AsyncClient, number: int, until: float, tally: Tally) -> None:
    """Send one request after another."""
    turn = number
    while time.monotonic() < until:
        token, shade, turn = uuid4().hex, 3 + turn % 10, turn + 1
        door = DOORS[turn % len(DOORS)]
        start = time.monotonic()
        try:
            answered, record = await ask(http, door, token, shade)
        except (httpx.HTTPError, ValueError, KeyError) as error:
            tally.lost[f"{type(error).__name__}: {error}"[:100]] += 1
            continue
        tally.seconds.append(time.monotonic() - start)
        tally.doors[door] += 1
        tally.calls += record["num_calls"]
        tally.mixed += answered != expected(token, shade) or record["agreement"] != 1.0


async def soak(url: str, pid: int, *, clients: int, seconds: float) -> tuple[Tally, list[float]]:
    """Run the clients; return their counts and the server's memory every second, in MiB."""
    tally, memory = Tally(), []
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as http:
        until = time.monotonic() + seconds
        running = [asyncio.create_task(client(http, number, until, tally)) for number in range(clients)]
        while not all(task.done() for task in running):
            memory.append(resident(pid))
            await asyncio.sleep(1)
        await asyncio.gather(*running)
    memory.append(resident(pid))
    return tally, memory


def resident(pid: int) -> float:
    """Return the resident memory of a process in MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def start_server(clients: int, log: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start the server in its own process; return the process and the URL once it is ready."""
    command = [sys.executable, "-m", "benchmarks.soak", "--serve", "--clients", str(clients)]
    with log.open("wb") as output:
        server = subprocess.Popen(command, stderr=output, stdout=subprocess.DEVNULL)  # noqa: S603
    while not (found := re.search(r"listens on (\S+)", log.read_text())):
        if server.poll() is not None:
            raise SystemExit(log.read_text())
        time.sleep(0.2)
    while httpx.get(f"{found[1]}/readyz").status_code != 200:
        time.sleep(0.2)
    return server, found[1]


def serve(clients: int) -> None:
    """Run `smoothguard serve` with the scripted model."""
    from smoothguard_guardrail.cli import app, loading

    loading.load_model = lambda name, *, device="auto": EchoModel()
    limits = ["--max-concurrency", str(clients), "--max-connections-per-client", str(2 * clients + 10)]
    app(["serve", "--model", "test:echo", "--port", "0", *limits, "--record", "full"])


def report(tally: Tally, memory: list[float], *, before: float, seconds: float, clients: int) -> None:
    """Print the figures."""
    answered = len(tally.seconds)
    times = np.quantile(tally.seconds, [0.5, 0.95, 0.99, 1.0]) if answered else [0.0] * 4
    quarters = [memory[(len(memory) - 1) * quarter // 4] for quarter in (1, 2, 3, 4)]
    print(f"clients        {clients}, for {seconds:.0f} s")
    print(f"answered       {answered:,} requests, {answered / seconds:.1f} per second; {tally.calls:,} model calls")
    print(f"by door        {', '.join(f'{door} {count:,}' for door, count in sorted(tally.doors.items()))}")
    print(f"lost           {tally.lost.total():,} {dict(tally.lost) or ''}")
    print(f"mixed          {tally.mixed:,}")
    print("latency in s   median {:.2f}, 95 % {:.2f}, 99 % {:.2f}, most {:.2f}".format(*times))
    print(f"memory in MiB  {before:.0f} when ready, then by quarters {' '.join(f'{value:.0f}' for value in quarters)}")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description="Many clients against smoothguard serve.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.clients)
        return
    with tempfile.TemporaryDirectory() as folder:
        server, url = start_server(given.clients, Path(folder, "log.txt"))
        try:
            before = resident(server.pid)
            tally, memory = asyncio.run(soak(url, server.pid, clients=given.clients, seconds=given.seconds))
        finally:
            server.terminate()
            server.wait()
    report(tally, memory, before=before, seconds=given.seconds, clients=given.clients)
    if tally.mixed or tally.lost:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
