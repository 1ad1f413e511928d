"""How often EfficientNet-Lite0 still names what is on perturbed copies of photos, and of attacked photos.

Run: python -m benchmarks.field.naming --cache FOLDER. It names objects and does nothing else.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from benchmarks.field.copies import Setting, add_grid_options, winner
from benchmarks.field.namer import (
    CODE,
    CUTOUTS,
    INPUT_SIDE,
    NAMES,
    PHOTOS,
    WEIGHTS,
    Labelled,
    Namer,
    TargetClass,
    cutouts,
    photos,
)
from benchmarks.field.packages import add_cache_option, fetch_all
from smoothguard_guardrail.attacks import PGD
from smoothguard_guardrail.core.model_info import ModelInfo
from smoothguard_guardrail.evaluation.statistics import Rate
from smoothguard_guardrail.media import resize


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How images reach the namer.

    Args:
        name: For the table.
        side: Images are enlarged to this side first; None: they keep their size.
        model_info: What the guard knows of the namer.
    """

    name: str
    side: int | None
    model_info: ModelInfo

    def fitted(self, image: torch.Tensor) -> torch.Tensor:
        """Return an image at the size at which it is sent."""
        return image if self.side is None else resize(image, (self.side, self.side))


KNOWN = Route(
    name="known, 224",
    side=None,
    model_info=ModelInfo(image_input_size=lambda height, width: (INPUT_SIDE, INPUT_SIDE)),
)
UNKNOWN = Route(name="unknown, own size", side=None, model_info=ModelInfo())
LARGE = Route(name="unknown, 1024", side=1024, model_info=ModelInfo())
PATHS = (KNOWN, UNKNOWN, LARGE)


def answers(namer: Namer, setting: Setting, image: torch.Tensor, num_copies: int) -> list[int]:
    """Return what is named on every copy of an image."""
    number = num_copies if setting.sigma or setting.max_shift else 1
    copies = [copy for (copy,) in setting.copies(image, number, seed=0)]
    return namer.name(torch.stack(copies))


def accuracy(namer: Namer, setting: Setting, images: Sequence[Labelled], num_copies: int) -> tuple[Rate, Rate]:
    """Return how often single copies, and the vote over all copies, are named right."""
    named = [(answers(namer, setting, each.image, num_copies), each.labels) for each in images]
    single = Rate.of(answer in labels for found, labels in named for answer in found)
    return single, Rate.of(winner(found) in labels for found, labels in named)


def attacked(namer: Namer, images: Sequence[Labelled], epsilon: float, num_steps: int) -> list[Labelled]:
    """Return attacked images on which another class is named, each with the class that was named before."""
    before = [namer.name(each.image[None])[0] for each in images]
    generator = torch.Generator().manual_seed(0)
    targets = (torch.tensor(before) + torch.randint(1, 1000, (len(before),), generator=generator)) % 1000
    attack = PGD(epsilon, num_steps=num_steps, seed=0)
    media = attack.run(TargetClass(namer, targets), torch.stack([each.image for each in images])).images
    hits = [answer == int(target) for answer, target in zip(namer.name(media), targets, strict=True)]
    return [
        Labelled(image=image, labels=frozenset({name}))
        for image, name, hit in zip(media, before, hits, strict=True)
        if hit
    ]


def main() -> None:
    """Print accuracy without an attack, and how often the class named before is back under attack."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_cache_option(parser)
    add_grid_options(parser, resolutions=["auto"])
    parser.add_argument("--paths", nargs="+", choices=[path.name for path in PATHS], default=[p.name for p in PATHS])
    parser.add_argument("--cutouts", action="store_true", help="also cut-outs (another package, 161 MB)")
    parser.add_argument("--epsilons", type=int, nargs="*", default=[4, 8], help="of the attacks, in 1/255")
    parser.add_argument("--num-steps", type=int, default=40, help="of the attacks")
    options = parser.parse_args()
    weights, code, folder = fetch_all((WEIGHTS, CODE, PHOTOS), options.cache)
    namer, sets = Namer.load(code, weights), {"photos": photos(folder)}
    if options.cutouts:
        sets["cut-outs"] = cutouts(*fetch_all((CUTOUTS, NAMES), options.cache))
    header = " | ".join(f"{name}, {of}" for name in _columns(options, list(sets)) for of in ("copies", "vote"))
    print(f"| path | sigma | shift | {header} |\n" + "|---" * (3 + header.count("|") + 1) + "|", flush=True)
    for path in (path for path in PATHS if path.name in options.paths):
        _print_path(path, namer, sets, options)


def _columns(options: argparse.Namespace, sets: list[str]) -> list[str]:
    return [*sets, *(f"{epsilon}/255 undone" for epsilon in options.epsilons)]


def _print_path(path: Route, namer: Namer, sets: dict[str, list[Labelled]], options: argparse.Namespace) -> None:
    sent = {name: [replace(each, image=path.fitted(each.image)) for each in images] for name, images in sets.items()}
    base = Setting(sigma=0, model_info=path.model_info)
    # An attacker who knows the size at which the namer sees images attacks them at that size.
    at_size = [replace(each, image=next(base.copies(each.image, 1, seed=0))[0]) for each in sent["photos"]]
    right = [each for each in at_size if namer.name(each.image[None])[0] in each.labels]
    for epsilon in options.epsilons:
        sent[f"{epsilon}/255"] = attacked(namer, right, epsilon / 255, options.num_steps)
        print(f"{path.name}, {epsilon}/255: {len(sent[f'{epsilon}/255'])} of {len(right)} attacks succeeded")
    cells = [(0.0, 0), *itertools.product(options.sigmas, options.shifts)]
    for sigma, shift in cells:
        setting = replace(base, sigma=sigma, max_shift=shift)
        rates = [rate for images in sent.values() for rate in accuracy(namer, setting, images, options.num_copies)]
        values = " | ".join(f"{rate.k}/{rate.n} = {rate.value or 0:.3f}" for rate in rates)
        print(f"| {path.name} | {sigma:g} | {shift} | {values} |", flush=True)


if __name__ == "__main__":
    main()
