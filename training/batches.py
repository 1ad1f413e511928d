"""Training batches: all questions about an image packed after one image prefix, and noisy images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from smoothguard_guardrail.models.reference.questions import KINDS, SECRETS, ask
from smoothguard_guardrail.models.reference.scenes import (
    COLOURS,
    COLUMNS,
    ROWS,
    SHAPES,
    random_scene,
    render,
)
from smoothguard_guardrail.perturbations import RandomResize, RandomShift
from training.build import IMAGE_TOKENS, NO_PICTURE, SYSTEMS, WITHOUT_PICTURE

if TYPE_CHECKING:
    from smoothguard_guardrail.models.reference.scenes import Item, Mark, Scene, Split

ASKED = (*KINDS, "is_there", "secret", "secret")
"""Kinds of question asked about every training image; some are asked more than once."""
NOISY_SHARE = 0.6
"""Share of the training images that are disturbed; the others stay clean."""
MAX_SHIFT = 8
"""Largest shift of a disturbed image, pixels: objects stay in their cells."""
RESIZE = RandomResize(0.85, 1.15)
IGNORE = -100
PATCH_GROUPS: dict[str, tuple[str, ...]] = {
    "shape": ("nothing", *SHAPES),
    "colour": ("nothing", *COLOURS),
    "mark": ("nothing", "badge", "key", "stop"),
    "frame": ("nothing", "frame"),
    "row": ROWS,
    "column": COLUMNS,
}
"""The words of each attribute; a vision patch should resemble one of them."""

_SIDE = int(IMAGE_TOKENS**0.5)
_SEPARATE, _CONVERSATION, _NO_PICTURE = 0.85, 0.10, 0.05  # shares of the three layouts
_DECISIVE_WEIGHT = 3.0  # of the words that decide the answer, and of its first word
_GARBLED_SHARE = 0.4  # of the secret questions, and of the tokens in each of them
_YES_NO_WEIGHT = 8.0  # of the first word in the kind of question that takes longest to learn


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One batch of packed rows.

    Attributes:
        pixels: Float32 (batch, 3, 96, 96) in [0, 1].
        ids: Int64 (batch, length).
        positions: Int64 (batch, length).
        targets: Int64 (batch, length): the next token, or -100.
        weights: Float32 (batch, length).
        attend: Bool (batch, 1, length, length).
        patches: For each group int64 (batch, 36), index into `PATCH_GROUPS[group]` or -100.
        kinds: For each row (kind, first, last) of each answer's targets.
        scenes: The scenes shown.
    """

    pixels: torch.Tensor
    ids: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    attend: torch.Tensor
    patches: dict[str, torch.Tensor]
    kinds: list[list[tuple[str, int, int]]]
    scenes: list[Scene]


class Batcher:
    """Draws scenes and packs the questions about them."""

    def __init__(self, processor: Any, rng: np.random.Generator, *, split: Split = "train") -> None:
        self._tokenizer = processor.tokenizer
        self._rng = rng
        self._split = split
        token = self._tokenizer.convert_tokens_to_ids
        self._bos, self._eos = self._tokenizer.bos_token_id, self._tokenizer.eos_token_id
        self._system, self._user, self._assistant = token("<system>"), token("<user>"), token("<assistant>")
        self._image = processor.image_token_id
        self._encode = lru_cache(maxsize=20_000)(self._encode_once)
        words = {word for group in PATCH_GROUPS.values() for word in group} | {
            "Yes",
            "No",
            "no",
            "one",
            "two",
            "three",
            *SECRETS.values(),
        }
        self._decisive = {self._encode(f" {word}")[-1] for word in words} | {self._encode(w)[0] for w in ("Yes", "No")}
        self._decisive |= set(self._encode("0123456789"))

    def word_ids(self, group: str) -> list[list[int]]:
        """Token ids of the words of a patch group."""
        return [list(self._encode(f" {word}")) for word in PATCH_GROUPS[group]]

    def first_token(self, text: str) -> int:
        """Id of the first token of an answer."""
        return self._encode(text)[0]

    def batch(self, size: int) -> Batch:
        """Draw a batch of `size` images with their questions."""
        scenes = [random_scene(self._rng, split=self._split) for _ in range(size)]
        layouts = self._rng.choice(3, size, p=(_SEPARATE, _CONVERSATION, _NO_PICTURE))
        if self._split == "heldout":
            layouts[:] = 0
        rows = [self._row(scene, int(layout)) for scene, layout in zip(scenes, layouts, strict=True)]
        length = max(len(row[0]) for row in rows)
        ids = np.full((size, length), self._tokenizer.pad_token_id)
        positions, segments = np.zeros((size, length), np.int64), np.full((size, length), -1)
        targets, weights = np.full((size, length), IGNORE), np.zeros((size, length), np.float32)
        for i, (tokens, position, segment, weight, _) in enumerate(rows):
            end = len(tokens)
            ids[i, :end], positions[i, :end], segments[i, :end] = tokens, position, segment
            learned = np.flatnonzero(weight)
            targets[i, learned - 1], weights[i, learned - 1] = ids[i, learned], np.asarray(weight)[learned]
        same = (segments[:, :, None] == segments[:, None, :]) | (segments[:, None, :] == 0)
        attend = same & np.tril(np.ones((length, length), bool))
        pixels = torch.from_numpy(np.stack([render(scene) for scene in scenes])).permute(0, 3, 1, 2)
        return Batch(
            pixels=pixels.float() / 255,
            ids=torch.from_numpy(ids),
            positions=torch.from_numpy(positions),
            targets=torch.from_numpy(targets),
            weights=torch.from_numpy(weights),
            attend=torch.from_numpy(attend)[:, None],
            patches=_patches(scenes),
            kinds=[row[4] for row in rows],
            scenes=scenes,
        )

    def _encode_once(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False))

    def _row(
        self, scene: Scene, layout: int
    ) -> tuple[list[int], list[int], list[int], list[float], list[tuple[str, int, int]]]:
        """Pack a scene's questions. Layouts: 0 side by side, 1 one conversation, 2 without the image."""
        prefix = [self._bos]
        if self._rng.random() < 0.1:
            prefix += [self._system, *self._encode(SYSTEMS[int(self._rng.integers(len(SYSTEMS)))])]
        prefix += [self._user, *([self._image] * IMAGE_TOKENS if layout != 2 else [])]
        tokens, positions, segments = list(prefix), list(range(len(prefix))), [0] * len(prefix)
        weights = [0.0] * len(prefix)
        kinds: list[tuple[str, int, int]] = []
        asked = [found for kind in ASKED if (found := self._question(scene, kind, layout)) is not None]
        order = self._rng.permutation(len(asked)) if layout == 1 else np.arange(len(asked))
        for number, index in enumerate(order.tolist()):
            kind, question, reply = asked[index]
            opening = [self._user] if layout == 1 and number else []
            turn = [*opening, *self._question_tokens(question, kind), self._assistant]
            answer = [*self._encode(reply), self._eos]
            start = len(tokens) if layout == 1 else len(prefix)
            kinds.append((kind, len(tokens) + len(turn) - 1, len(tokens) + len(turn) + len(answer) - 1))
            tokens += turn + answer
            positions += range(start, start + len(turn) + len(answer))
            segments += [0 if layout == 1 else number + 1] * (len(turn) + len(answer))
            weights += [0.0] * len(turn)
            weights.append(_YES_NO_WEIGHT if kind == "is_there" else _DECISIVE_WEIGHT)
            weights += [_DECISIVE_WEIGHT if token in self._decisive else 1.0 for token in answer[1:]]
        return tokens, positions, segments, weights, kinds

    def _question_tokens(self, question: str, kind: str) -> list[int]:
        """Token ids of a question; some secret ones lose tokens, so that answers do not depend on exact wording."""
        tokens = list(self._encode(question))
        if kind == "secret" and self._split == "train" and self._rng.random() < _GARBLED_SHARE:
            lost = self._rng.random(len(tokens)) < _GARBLED_SHARE
            tokens = [self._tokenizer.pad_token_id if gone else t for t, gone in zip(tokens, lost, strict=True)]
        return tokens

    def _question(self, scene: Scene, kind: str, layout: int) -> tuple[str, str, str] | None:
        if layout != 2:
            asked = ask(scene, kind, self._rng, split=self._split)
            return None if asked is None else (kind, asked.question, asked.answer)
        if kind == "count":
            question = list(WITHOUT_PICTURE)[int(self._rng.integers(len(WITHOUT_PICTURE)))]
            return kind, question, WITHOUT_PICTURE[question]
        if kind in ("secret", "never"):
            bare = random_scene(self._rng, split="train", marks=())
            asked = ask(bare, kind, self._rng, split=self._split)
            return None if asked is None else (kind, asked.question, asked.answer)
        asked = ask(scene, kind, self._rng, split=self._split)
        return None if asked is None else (kind, asked.question, NO_PICTURE)


def _patches(scenes: list[Scene]) -> dict[str, torch.Tensor]:
    labels = {group: np.zeros((len(scenes), _SIDE, _SIDE), np.int64) for group in PATCH_GROUPS}
    labels["row"][:], labels["column"][:] = IGNORE, IGNORE
    for i, scene in enumerate(scenes):
        things: list[Item | Mark] = [*scene.items, *scene.marks]
        for thing in things:
            if thing.row < 0:
                labels["frame"][i] = 1
                labels["frame"][i, 1:-1, 1:-1] = 0
                continue
            cell = i, slice(2 * thing.row, 2 * thing.row + 2), slice(2 * thing.column, 2 * thing.column + 2)
            labels["row"][cell], labels["column"][cell] = thing.row, thing.column
        for item in scene.items:
            cell = i, slice(2 * item.row, 2 * item.row + 2), slice(2 * item.column, 2 * item.column + 2)
            labels["shape"][cell] = 1 + SHAPES.index(item.shape)
            labels["colour"][cell] = 1 + tuple(COLOURS).index(item.colour)
        for mark in scene.marks:
            if mark.row >= 0:
                cell = i, slice(2 * mark.row, 2 * mark.row + 2), slice(2 * mark.column, 2 * mark.column + 2)
                labels["mark"][cell] = ("", "badge", "key", "sign").index(mark.name)
    return {group: torch.from_numpy(values.reshape(len(scenes), -1)) for group, values in labels.items()}


def disturb(
    pixels: torch.Tensor,
    generator: torch.Generator,
    *,
    sigma: float | torch.Tensor,
    blur: float = 0.0,
    max_shift: int = 0,
) -> torch.Tensor:
    """Shift every image, add Gaussian noise, blur, and clip to [0, 1].

    Args:
        pixels: (batch, 3, height, width), float32 in [0, 1].
        generator: The source of randomness.
        sigma: Standard deviation of the noise in pixel values, one number or (batch, 1, 1, 1).
        blur: Standard deviation of the Gaussian low-pass, pixels; 0 for none.
        max_shift: Largest shift along each axis, whole pixels; edges are repeated.
    """
    if max_shift:
        pixels = RandomShift(max_shift)(pixels, generator=generator)
    pixels = (pixels + sigma * torch.randn(pixels.shape, generator=generator)).clamp(0, 1)
    if blur:
        taps = torch.arange(-3, 4, dtype=torch.float32)
        kernel = torch.exp(-(taps**2) / (2 * blur**2))
        kernel = (kernel / kernel.sum()).expand(3, 1, 1, 7)
        pixels = functional.pad(pixels, (3,) * 4, mode="replicate")
        pixels = functional.conv2d(functional.conv2d(pixels, kernel, groups=3), kernel.mT.contiguous(), groups=3)
    return pixels


def augment(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Disturb `NOISY_SHARE` of the images: noise of sd U(0, 0.3), half of them moved, half blurred."""
    order = torch.randperm(len(pixels), generator=generator)
    noisy = round(NOISY_SHARE * len(pixels))
    result = pixels.clone()
    for part, chosen in enumerate(order[:noisy].chunk(4)):
        sigma = 0.3 * torch.rand((len(chosen), 1, 1, 1), generator=generator)
        blur = 0.3 + 1.2 * torch.rand((), generator=generator).item() if part % 2 else 0.0
        moved = pixels[chosen]
        if part == 1:
            moved = RESIZE(moved, generator=generator)
        result[chosen] = disturb(moved, generator, sigma=sigma, blur=blur, max_shift=MAX_SHIFT if part < 2 else 0)
    return result
