"""The noise that models really see, by processor, size and shape: `python -m benchmarks.effective_noise`.

Builds the image processors of common families with their published sizes, without weights, and measures the standard
deviation of noise of 0.1 at their output: added at the size of an image as it came, shrunk to 1024 pixels at most, and
where and as strong as the guard adds it.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch

from smoothguard_guardrail import SmoothGuardConfig
from smoothguard_guardrail.core.model_info import ModelInfo
from smoothguard_guardrail.core.model_input import ModelInput
from smoothguard_guardrail.media import resize
from smoothguard_guardrail.models.image_input import ImageInput

SIGMA = 0.1
SIZES = ((64, 64), (336, 336), (1024, 576), (1200, 1600), (4000, 3000), (64, 1024), (128, 4000), (2048, 64))
"""Heights and widths, up to 32:1."""


class Processor(NamedTuple):
    """An image processor with its published settings."""

    name: str
    build: Callable[[], Any]
    patch_size: int | None = None


def processors() -> Iterator[Processor]:
    """Yield the processors."""
    import transformers as hf

    def square(side: int) -> dict[str, int]:
        return {"height": side, "width": side}

    yield Processor("LLaVA 1.5", lambda: hf.CLIPImageProcessor(size={"shortest_edge": 336}, crop_size=square(336)))
    yield Processor(
        "LLaVA-NeXT",
        lambda: hf.LlavaNextImageProcessor(size={"shortest_edge": 336}, crop_size=square(336)),
    )
    yield Processor("Qwen2-VL", hf.Qwen2VLImageProcessor, 14)
    yield Processor("SmolVLM, Idefics3", hf.SmolVLMImageProcessor)
    yield Processor("PaliGemma (SigLIP)", lambda: hf.SiglipImageProcessor(size=square(224)))
    yield Processor("Gemma 3", lambda: hf.Gemma3ImageProcessor(size=square(896)))
    yield Processor("InternVL", lambda: hf.GotOcr2ImageProcessor(size=square(448), crop_to_patches=True))
    yield Processor("Llama 3.2 Vision", lambda: hf.MllamaImageProcessor(size=square(560), max_image_tiles=4))
    yield Processor("Pixtral", hf.PixtralImageProcessor)


def effective_sd(image_input: ImageInput, size: tuple[int, int], sigma: float) -> float:
    """Return the standard deviation at the model's input of noise on a smooth picture of a size."""
    generator = torch.Generator().manual_seed(1)
    picture = 0.4 + 0.2 * resize(torch.rand(3, 4, 4, generator=generator), size)
    noise = sigma * torch.randn(picture.shape, generator=generator)
    noisy, clean = image_input.views(picture + noise), image_input.views(picture)
    if noisy is None or clean is None:
        return float("nan")
    return float((noisy.values - clean.values).movedim(1, -1)[noisy.is_image].square().mean().sqrt())


def main() -> None:
    """Print one line for each processor and size."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.effective_noise", description=(__doc__ or "").split(":")[0]
    )
    parser.add_argument("--only", help="part of a processor's name")
    only = parser.parse_args().only
    print(f"{'processor':20}{'image':>12}{'at its size':>13}{'at 1024':>9}{'guard':>8}  {'added at':>12}{'ms':>7}")
    worst = 0.0
    for processor in processors():
        if only and only.lower() not in processor.name.lower():
            continue
        build = processor.build()
        image_input = ImageInput(
            lambda image, build=build: build(images=[image], do_rescale=False, return_tensors="pt"),  # type: ignore[misc]
            patch_size=processor.patch_size,
        )
        info = ModelInfo(image_input_size=image_input.size, image_noise_gain=image_input.gain, known_by="measurement")
        guard = ModelInput(config=SmoothGuardConfig(sigma=SIGMA), model_info=info)
        unknown = ModelInput(config=SmoothGuardConfig(image={"resolution": 1024}), model_info=ModelInfo())
        for height, width in SIZES:
            start = time.perf_counter()
            size = guard.image_size(height, width, {})
            gain = guard.image_gain(*size) or 1.0
            seconds = time.perf_counter() - start
            found = [
                effective_sd(image_input, (height, width), SIGMA),
                effective_sd(image_input, unknown.image_size(height, width, {}), SIGMA),
                effective_sd(image_input, size, SIGMA / gain),
            ]
            worst = max(worst, abs(found[2] / SIGMA - 1))
            columns = f"{found[0]:13.3f}{found[1]:9.3f}{found[2]:8.3f}  {f'{size[1]}x{size[0]}':>12}"
            print(f"{processor.name:20}{f'{width}x{height}':>12}{columns}{1e3 * seconds:7.0f}", flush=True)
    print(f"largest deviation with the guard: {worst:.1%}")


if __name__ == "__main__":
    main()
