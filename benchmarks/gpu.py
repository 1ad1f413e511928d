"""What an accelerator gives the guard: `python -m benchmarks.gpu`. Ratios, with the device's name.

Every line compares N copies with one: how much longer the noise, the answers and a gradient take, and the most memory
that the device held. On a machine without an accelerator the same lines are about the CPU, without memory.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from langchain_core.messages import HumanMessage

from benchmarks.speed import best
from smoothguard_guardrail import SmoothGuardConfig
from smoothguard_guardrail.attacks import TargetLoss
from smoothguard_guardrail.evaluation.record import device_name
from smoothguard_guardrail.models import ChatTransformersMultimodal, load_model
from smoothguard_guardrail.models.loading import pick_device
from smoothguard_guardrail.perturbations import build_perturber, make_generator

QUESTION, TARGET = "What is the gate code?", "The gate code is 6173."
SIDE = 1024
"""Of the images that noise is added to, in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a call takes."""

    seconds: float
    mebibytes: float | None
    """Most memory of the device during the call; None on the CPU."""


def measure(call: Callable[[], object], device: torch.device, *, runs: int = 5) -> Cost:
    """Return the shortest of several calls, after one that warms up, and the most memory of all."""
    if device.type != "cuda":
        return Cost(seconds=best(call, runs), mebibytes=None)

    def finished() -> None:
        call()
        torch.cuda.synchronize()

    torch.cuda.reset_peak_memory_stats()
    return Cost(seconds=best(finished, runs), mebibytes=torch.cuda.max_memory_allocated() / 2**20)


def noise(device: torch.device, count: int) -> Callable[[], object]:
    """Return a call that makes perturbed copies of a large image."""
    image, generator = torch.rand(1, 3, SIDE, SIDE, device=device), make_generator(0, device=device)
    config = SmoothGuardConfig()
    perturb = build_perturber(sigma=config.sigma, max_shift=config.image.max_shift)
    return lambda: perturb(image.expand(count, -1, -1, -1), generator=generator)


def answers(model: ChatTransformersMultimodal, count: int) -> Callable[[], object]:
    """Return a call that asks a model about images, in one batch."""
    generator = torch.Generator().manual_seed(0)
    requests = [
        [HumanMessage([{"type": "image", "image": image}, {"type": "text", "text": QUESTION}])]
        for image in torch.rand(count, 3, 96, 96, generator=generator)
    ]
    return lambda: model.generate_batch(requests)


def gradient(model: ChatTransformersMultimodal, count: int) -> Callable[[], object]:
    """Return a call that takes the gradient of an attack's loss on images."""
    images = torch.rand(count, 3, 96, 96, device=model.engine.device, requires_grad=True)
    rows = torch.arange(count, device=model.engine.device)
    loss = TargetLoss(model, images.detach(), [QUESTION] * count, [TARGET] * count)

    def call() -> object:
        with loss.frozen():
            return torch.autograd.grad(loss(images, rows).sum(), images)

    return call


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--copies", type=int, nargs="+", default=[8, 16, 64, 256])
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    device, model = pick_device("auto"), cast("ChatTransformersMultimodal", load_model("reference"))
    print(f"{device_name()}; a ratio of N against N calls of one is what a batch saves\n")
    print("| what | N | one: ms | N: ms | N against one | MiB |\n|---|---|---|---|---|---|")
    calls: dict[str, Callable[[int], Callable[[], object]]] = {
        f"noise on {SIDE} x {SIDE} px": lambda count: noise(device, count),
        "answers of the reference model": lambda count: answers(model, count),
        "gradients of the reference model": lambda count: gradient(model, count),
    }
    for what, make in calls.items():
        one = measure(make(1), device, runs=options.runs)
        for count in options.copies:
            many = measure(make(count), device, runs=options.runs)
            memory = "-" if many.mebibytes is None else f"{many.mebibytes:,.0f}"
            cells = [what, str(count), f"{one.seconds * 1e3:.1f}", f"{many.seconds * 1e3:.1f}"]
            print(f"| {' | '.join(cells)} | {many.seconds / one.seconds:.1f} | {memory} |", flush=True)


if __name__ == "__main__":
    main()
