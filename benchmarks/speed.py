"""What the guard costs beside the model calls: `python -m benchmarks.speed`.

Every line is the best of several runs, as a ratio against a named baseline in the same run; milliseconds are this
machine's. A line says what a user would otherwise do, or what the guard itself did before.
"""

from __future__ import annotations

import base64
import io
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.runnables import RunnableLambda
from PIL import Image
from sklearn.cluster import KMeans

from smoothguard_guardrail import SmoothGuardConfig, SmoothGuardRunnable
from smoothguard_guardrail.media.image import encode_png
from smoothguard_guardrail.models import ChatTransformersMultimodal
from smoothguard_guardrail.models.reference import reference_path
from smoothguard_guardrail.models.reference.demo import load_demo
from smoothguard_guardrail.perturbations import build_perturber
from smoothguard_guardrail.testing import ScriptedChatModel
from smoothguard_guardrail.voting import default_embedder, embed_answers

NUM_COPIES = 10
SIDE = 1024
RUNS = 5


def best(function: Callable[[], Any], runs: int = RUNS) -> float:
    """Return the shortest time of a call in seconds, after one that warms up."""
    function()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def perturbing() -> Iterator[tuple[str, float, str, float]]:
    """Ten noisy copies of a photograph-sized picture, and their encoding."""
    picture = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    perturb, generator = build_perturber(sigma=0.1), torch.Generator().manual_seed(0)
    copies = perturb(picture.expand(NUM_COPIES, *picture.shape), generator=generator)

    def naive() -> list[torch.Tensor]:
        return [(picture + 0.1 * torch.randn_like(picture)).clamp(0, 1) for _ in range(NUM_COPIES)]

    def ours() -> torch.Tensor:
        return perturb(picture.expand(NUM_COPIES, *picture.shape), generator=generator)

    yield "noise, one buffer", best(ours), "noise, copy by copy", best(naive)

    def pillow() -> None:
        for copy in copies:
            array = np.asarray((copy * 255).round().to(torch.uint8).permute(1, 2, 0))
            Image.fromarray(array).save(io.BytesIO(), "PNG")

    def encoder() -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(encode_png, copies))

    yield "PNG, run-length, 2 threads", best(encoder, 2), "PNG, Pillow's default, in series", best(pillow, 1)


def guarding() -> Iterator[tuple[str, float, str, float]]:
    """All of the guard but the model calls, against the pipeline that one would write first, at the same size."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(buffer, "PNG")
    data = buffer.getvalue()
    block = {"type": "image", "base64": base64.b64encode(data).decode()}
    sent: dict[str, int] = {}
    answers = ["A red circle.", "A blue square."]

    def answer(messages: list[BaseMessage]) -> str:
        sent["ours"] = sent.get("ours", 0) + len(str(messages[0].content))
        return answers[0]

    config = SmoothGuardConfig(num_samples=NUM_COPIES, early_stop=None, sigma=0.1)
    guard = SmoothGuardRunnable(RunnableLambda(answer), config)
    embedder = default_embedder()

    def ours() -> None:
        sent["ours"] = 0
        guard.invoke([HumanMessage([{"type": "text", "text": "What is it?"}, block])])

    def naive() -> None:
        sent["naive"] = 0
        with Image.open(io.BytesIO(data)) as image:
            pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1) / 255
        for _ in range(NUM_COPIES):
            noisy = (pixels + 0.1 * torch.randn_like(pixels)).clamp(0, 1)
            encoded = io.BytesIO()
            array = np.asarray((noisy * 255).round().to(torch.uint8).permute(1, 2, 0))
            Image.fromarray(array).save(encoded, "PNG")
            sent["naive"] += len(base64.b64encode(encoded.getvalue()))
        vectors = np.array(embedder.embed_documents([f"{answers[0]} {index}" for index in range(NUM_COPIES)]))
        KMeans(2, n_init=10, random_state=0).fit(vectors)

    seconds = best(ours, 3), best(naive, 1)
    yield "guard beside the model, 10 copies", seconds[0], "naive: PNG, MiniLM, K-means", seconds[1]
    yield "bytes sent (ms: kB)", sent["ours"] / 1e6, "naive, PNG", sent["naive"] / 1e6


def asking() -> Iterator[tuple[str, float, str, float]]:
    """The model calls: one batch against one by one, and a remote model asked at once against in turn."""
    model = ChatTransformersMultimodal.from_pretrained(str(reference_path()))
    messages: Any = [load_demo().pictures[0].message()]
    batch = best(lambda: model.generate_batch([messages] * NUM_COPIES))
    series = best(lambda: [model.generate_batch([messages]) for _ in range(NUM_COPIES)])
    yield "ten answers, one batch", batch, "ten answers, one by one", series

    single = best(lambda: model.generate_batch([messages]))
    for name, config in (("reference", SmoothGuardConfig.reference()), ("paper", SmoothGuardConfig.paper())):
        guard = SmoothGuardRunnable(model, config=config)
        yield f"guarded answer, {name}", best(lambda guard=guard: guard.invoke(messages)), "one answer", single  # type: ignore[misc]

    slow = ScriptedChatModel(script=["A cat."], delay=0.2)
    guard = SmoothGuardRunnable(slow, config=SmoothGuardConfig(early_stop=None, num_samples=NUM_COPIES))
    remote = best(lambda: guard.invoke(messages), 3)
    yield "guarded answer, a model of 200 ms", remote, "one call to it", best(lambda: slow.invoke(messages), 3)


def voting() -> Iterator[tuple[str, float, str, float]]:
    """Embedding: equal answers are embedded once."""
    embedder = default_embedder()
    answers = ["A red circle at the top left.", "A blue square in the centre."]
    same = best(lambda: embed_answers(embedder, answers * (NUM_COPIES // 2)))
    distinct = [f"{answer} Number {index}." for index in range(NUM_COPIES // 2) for answer in answers]
    yield "two distinct answers of ten", same, "ten distinct answers", best(lambda: embed_answers(embedder, distinct))


def importing() -> Iterator[tuple[str, float, str, float]]:
    """The import that every user pays."""

    def load(module: str) -> Callable[[], Any]:
        return lambda: subprocess.run([sys.executable, "-c", f"import {module}"], check=True)  # noqa: S603

    yield "import smoothguard_guardrail", best(load("smoothguard_guardrail"), 3), "import torch", best(load("torch"), 1)


def main() -> None:
    """Print every line."""
    print(f"{'':36}{'ms':>9}  {'against':36}{'ms':>9}{'ratio':>8}")
    with torch.inference_mode():
        for part in (importing, perturbing, guarding, voting, asking):
            for name, seconds, baseline, other in part():
                ratio = seconds / other
                print(f"{name:36}{seconds * 1e3:9.1f}  {baseline:36}{other * 1e3:9.1f}{ratio:8.2f}", flush=True)


if __name__ == "__main__":
    main()
