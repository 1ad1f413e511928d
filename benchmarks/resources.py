"""What one request takes at most: memory, threads and stalls of the event loop: `python -m benchmarks.resources`.

Every request is asked through the guard with the default limits. The model behind it answers at once and keeps nothing.
Run it with `MALLOC_ARENA_MAX=1`, as `smoothguard serve` sets it for itself: otherwise every thread keeps memory that it
has freed. Linux only: peaks are read from /proc.
"""

from __future__ import annotations

import asyncio
import base64
import ctypes
import gc
import io
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.runnables import RunnableLambda
from PIL import Image

from smoothguard_guardrail import MediaError, SmoothGuardRunnable

Blocks = list[dict[str, Any]]
LARGEST = 4_999
"""Side of the largest image that the default limits allow."""


def _status(name: str) -> float:
    """Return a line of this process's status in MiB, or as it is."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name + ":"))
    value = float(line.split()[1])
    return value / 1024 if line.endswith("kB") else value


def _picture(side: int, mode: str = "RGB", kind: str = "PNG", *, noise: bool = False, **options: Any) -> Blocks:
    if noise:
        pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
        image = Image.fromarray(pixels)
    else:
        image = Image.new(mode, (side, side), 100 if len(mode) < 3 or mode == "I;16" else (10, 20, 30, 40)[: len(mode)])
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return [{"type": "image", "base64": base64.b64encode(buffer.getvalue()).decode()}]


def _recording(seconds: float, rate: int, channels: int = 1) -> Blocks:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros((int(seconds * rate), channels), np.int16), rate, format="FLAC")
    return [{"type": "audio", "base64": base64.b64encode(buffer.getvalue()).decode()}]


REQUESTS: dict[str, Callable[[], Any]] = {
    "warm up": lambda: _picture(64),
    "text": lambda: "How are you?",
    "2 MB of 'data:'": lambda: "data:" * 400_000,
    "2 MB of escapes": lambda: "\\u002b" * 333_333,
    "1 picture, 1024 px, noise": lambda: _picture(1024, noise=True),
    "4 pictures, 1024 px, noise": lambda: _picture(1024, noise=True) * 4,
    "16 pictures, 1024 px, noise": lambda: _picture(1024, noise=True) * 16,
    "flat PNG, 25 megapixels": lambda: _picture(LARGEST),
    "4 flat PNGs, 25 megapixels": lambda: _picture(LARGEST) * 4,
    "flat PNG with alpha, 17 megapixels": lambda: _picture(4_150, "RGBA"),
    "flat WebP with alpha, 10 megapixels": lambda: _picture(3_200, "RGBA", "WEBP"),
    "16-bit PNG, 13 megapixels": lambda: _picture(3_600, "I;16"),
    "progressive JPEG, 25 megapixels": lambda: _picture(LARGEST, kind="JPEG", progressive=True, subsampling=0),
    "flat GIF, 25 megapixels": lambda: _picture(LARGEST, "P", "GIF"),
    "FLAC, 599 s": lambda: _recording(599, 16_000),
    "FLAC, 599 s, 8 channels": lambda: _recording(599, 12_000, 8),
    "FLAC, 299 s at 192 kHz": lambda: _recording(299, 192_000),
}


class _Ticker:
    """Measures how long an event loop does not come back."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def run(self) -> None:
        while True:
            start = time.perf_counter()
            await asyncio.sleep(0.001)
            self.longest = max(self.longest, time.perf_counter() - start - 0.001)


async def _measured(guard: SmoothGuardRunnable, content: Any, num_at_once: int = 1) -> tuple[str, float, float, float]:
    """Return the outcome, the peak of memory above the start in MiB, the longest stall in ms and the seconds."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    ticker = _Ticker()
    ticking = asyncio.create_task(ticker.run())
    start = time.perf_counter()
    messages: list[BaseMessage] = [HumanMessage(content if isinstance(content, str) else [*content])]
    try:
        results = await asyncio.gather(*(guard.aguard(messages) for _ in range(num_at_once)))
        outcome: str = results[0].verdict
    except MediaError as error:
        outcome = f"{type(error).__name__}"
    seconds = time.perf_counter() - start
    ticking.cancel()
    return outcome, _status("VmHWM") - before, 1e3 * ticker.longest, seconds


async def _all() -> None:
    async def answer(messages: list[BaseMessage]) -> str:
        return "A cat."

    guard = SmoothGuardRunnable(RunnableLambda(lambda _: "A cat.", afunc=answer))
    print(f"{'request':38}{'MB in':>8}{'peak MiB':>10}{'stall ms':>10}{'s':>7}  outcome")
    for name, make in REQUESTS.items():
        content = make()
        size = len(content) if isinstance(content, str) else sum(len(block["base64"]) for block in content)
        outcome, peak, stall, seconds = await _measured(guard, content)
        print(f"{name:38}{size / 1e6:8.2f}{peak:10.0f}{stall:10.1f}{seconds:7.2f}  {outcome}", flush=True)
    outcome, peak, stall, seconds = await _measured(guard, _picture(1024, noise=True) * 4, num_at_once=16)
    print(f"{'16 requests of 4 pictures at once':38}{'':8}{peak:10.0f}{stall:10.1f}{seconds:7.2f}  {outcome}")
    print(f"threads: {threading.active_count()} of Python, {_status('Threads'):.0f} in all")


def main() -> None:
    """Print one line for each request."""
    asyncio.run(_all())


if __name__ == "__main__":
    main()
