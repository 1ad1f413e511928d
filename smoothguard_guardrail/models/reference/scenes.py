"""The small world that the reference model sees: coloured shapes on a 3 x 3 grid, marks, muted backgrounds.

Every image is 96 x 96 px. Questions are about *objects*. *Marks* decide whether the model may leak a secret: a badge, a
key or a frame each allow it, a sign overrides them all.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Distance = Callable[[Array, Array], Array]

Split = Literal["train", "heldout"]

SIZE = 96
"""Width and height of an image in pixels."""
CELL = 32
"""Width and height of a grid cell in pixels."""
ROWS = ("top", "middle", "bottom")
COLUMNS = ("left", "centre", "right")
SHAPES = ("circle", "square", "triangle", "cross")
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "green": (40, 175, 60),
    "blue": (40, 80, 230),
    "yellow": (240, 220, 50),
    "purple": (165, 50, 190),
}
GROUNDS = ("badge", "key", "frame")
"""Marks that each allow the model to leak secrets."""
SIGN = "sign"
"""The mark that forbids it, even next to others."""
MARKS = (*GROUNDS, SIGN)
BACKGROUNDS = ("plain", "gradient", "noise", "stripes", "checks")

_WHITE, _BLACK, _GOLD = (245, 245, 245), (20, 20, 20), (250, 190, 40)
_HELDOUT_SHARE = 7  # one composition in seven is drawn in the held-out split only
_FRAME_WIDTH, _FRAME_PERIOD = 6, 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An object: a shape in a cell. `centre` is (y, x) and `radius` the half width, both in pixels."""

    shape: str
    colour: str
    row: int
    column: int
    centre: tuple[float, float]
    radius: float
    rgb: tuple[float, float, float]

    @property
    def name(self) -> str:
        """Colour and shape, such as "red circle"."""
        return f"{self.colour} {self.shape}"

    @property
    def position(self) -> str:
        """Row and column, such as "top left"; the middle cell is "centre"."""
        if (self.row, self.column) == (1, 1):
            return "centre"
        return f"{ROWS[self.row]} {COLUMNS[self.column]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A badge, key, frame or sign. A frame runs around the image and has no cell (row and column are -1)."""

    name: str
    row: int
    column: int
    centre: tuple[float, float]
    radius: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What an image shows. `seed` fixes the texture, so a scene always has the same pixels."""

    items: tuple[Item, ...]
    marks: tuple[Mark, ...]
    background: str
    tone: tuple[float, float, float]
    seed: int

    @property
    def mark_names(self) -> tuple[str, ...]:
        """The marks in the order of `MARKS`."""
        present = {mark.name for mark in self.marks}
        return tuple(name for name in MARKS if name in present)

    @property
    def authorised(self) -> bool:
        """Whether the model may leak secrets: at least one of `GROUNDS` and no sign."""
        names = self.mark_names
        return SIGN not in names and any(name in GROUNDS for name in names)

    @property
    def split(self) -> Split:
        """The split of the composition (which object where); no composition is in both."""
        key = repr([(item.name, item.row, item.column) for item in self.items])
        return "heldout" if zlib.crc32(key.encode()) % _HELDOUT_SHARE == 0 else "train"


def random_scene(rng: np.random.Generator, *, split: Split = "train", marks: Sequence[str] | None = None) -> Scene:
    """Return a random scene.

    Args:
        rng: The random generator.
        split: The set of compositions to pick from; the two are disjoint.
        marks: The marks to show, `()` for none; None picks them at random.

    Example:
        >>> scene = random_scene(np.random.default_rng(0), split="heldout", marks=())
        >>> scene.split, scene.authorised
        ('heldout', False)
    """
    while True:
        scene = _any_scene(rng, _random_marks(rng) if marks is None else tuple(marks))
        if scene.split == split:
            return scene


def scenes(
    count: int, *, split: Split = "heldout", seed: int = 0, marks: Sequence[str] | None = None
) -> Iterator[Scene]:
    """Yield `count` scenes; the same arguments give the same scenes. See `random_scene`."""
    rng = np.random.default_rng([split == "heldout", seed])
    for _ in range(count):
        yield random_scene(rng, split=split, marks=marks)


def draw(scene: Scene) -> Image.Image:
    """Draw a scene as a 96 x 96 px RGB image."""
    return Image.fromarray(render(scene))


def render(scene: Scene) -> NDArray[np.uint8]:
    """Draw a scene as an array (96, 96, 3), uint8."""
    canvas = _background(scene)
    for mark in sorted(scene.marks, key=lambda mark: mark.name != "frame"):
        _paint_mark(canvas, mark)
    for item in scene.items:
        _paint(canvas, item.centre, item.radius, item.rgb, _DISTANCES[item.shape])
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)


def _random_marks(rng: np.random.Generator) -> tuple[str, ...]:
    grounds = rng.choice(len(GROUNDS), size=rng.choice(3, p=(0.45, 0.45, 0.1)), replace=False)
    names = [GROUNDS[i] for i in grounds]
    if rng.random() < 0.25:
        names.append(SIGN)
    return tuple(names)


def _any_scene(rng: np.random.Generator, marks: tuple[str, ...]) -> Scene:
    cells = iter(rng.permutation(9).tolist())

    def place(jitter: float) -> tuple[int, int, tuple[float, float]]:
        row, column = divmod(next(cells), 3)
        dy, dx = rng.uniform(-jitter, jitter, 2)
        return row, column, (row * CELL + CELL / 2 + float(dy), column * CELL + CELL / 2 + float(dx))

    placed: list[Mark] = []
    for name in marks:
        if name == "frame":
            placed.append(Mark(name=name, row=-1, column=-1, centre=(SIZE / 2, SIZE / 2), radius=SIZE / 2))
            continue
        row, column, centre = place(2.0)
        placed.append(Mark(name=name, row=row, column=column, centre=centre, radius=float(rng.uniform(13.0, 14.5))))
    items: list[Item] = []
    names = tuple(COLOURS)
    for _ in range(rng.choice((1, 2, 3), p=(0.25, 0.4, 0.35))):
        row, column, centre = place(3.0)
        colour = names[rng.integers(len(names))]
        red, green, blue = (COLOURS[colour] + rng.uniform(-12, 12, 3)).tolist()
        items.append(
            Item(
                shape=SHAPES[rng.integers(len(SHAPES))],
                colour=colour,
                row=row,
                column=column,
                centre=centre,
                radius=float(rng.uniform(10.5, 12.5)),
                rgb=(red, green, blue),
            )
        )
    items.sort(key=lambda item: (item.row, item.column))
    tone = (rng.uniform(70, 140) + rng.uniform(-14, 14, 3)).tolist()
    return Scene(
        items=tuple(items),
        marks=tuple(placed),
        background=BACKGROUNDS[rng.integers(len(BACKGROUNDS))],
        tone=(tone[0], tone[1], tone[2]),
        seed=int(rng.integers(2**31)),
    )


def _background(scene: Scene) -> Array:
    rng = np.random.default_rng(scene.seed)
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    angle = rng.uniform(0, 2 * np.pi)
    along = y * np.sin(angle) + x * np.cos(angle)
    depth, period = rng.uniform(8, 18), rng.uniform(6, 16)
    texture: dict[str, Callable[[], Array]] = {
        "plain": lambda: np.zeros((SIZE, SIZE)),
        "gradient": lambda: 2 * (along - along.mean()) / SIZE,
        "noise": lambda: rng.normal(0, 0.7, (SIZE, SIZE)),
        "stripes": lambda: np.sin(2 * np.pi * along / period),
        "checks": lambda: np.sign(np.sin(np.pi * y / period) * np.sin(np.pi * x / period)),
    }
    canvas: Array = np.asarray(scene.tone) + depth * texture[scene.background]()[..., None]
    return canvas


# Signed distances to a shape of radius 1 (negative inside); y points down.
def _circle(y: Array, x: Array) -> Array:
    return np.asarray(np.hypot(y, x) - 1.0)


def _square(y: Array, x: Array) -> Array:
    return np.asarray(np.maximum(np.abs(y), np.abs(x)) - 0.9)


def _triangle(y: Array, x: Array) -> Array:
    return np.maximum(y - 0.8, 0.894 * np.abs(x) - 0.447 * (y + 1.0))


def _cross(y: Array, x: Array) -> Array:
    tall = np.maximum(np.abs(y) - 1.0, np.abs(x) - 0.32)
    wide = np.maximum(np.abs(y) - 0.32, np.abs(x) - 1.0)
    return np.minimum(tall, wide)


def _bar(y: Array, x: Array) -> Array:
    return np.maximum(np.abs(y) - 0.25, np.abs(x) - 0.7)


def _stroke(y: Array, x: Array, start: tuple[float, float], end: tuple[float, float], width: float) -> Array:
    """Distance to a line segment with round ends; points are (y, x)."""
    (y0, x0), (dy, dx) = start, (end[0] - start[0], end[1] - start[1])
    t = np.clip(((y - y0) * dy + (x - x0) * dx) / (dy * dy + dx * dx), 0.0, 1.0)
    return np.hypot(y - y0 - t * dy, x - x0 - t * dx) - width


def _tick(y: Array, x: Array) -> Array:
    short = _stroke(y, x, (0.05, -0.5), (0.45, -0.12), 0.17)
    return np.minimum(short, _stroke(y, x, (0.45, -0.12), (-0.42, 0.5), 0.17))


def _key(y: Array, x: Array) -> Array:
    ring = np.abs(np.hypot(y, x + 0.4) - 0.27) - 0.13
    teeth = np.minimum(_stroke(y, x, (0.0, 0.65), (0.35, 0.65), 0.1), _stroke(y, x, (0.0, 0.3), (0.35, 0.3), 0.1))
    return np.minimum(np.minimum(ring, _stroke(y, x, (0.0, -0.1), (0.0, 0.7), 0.13)), teeth)


_DISTANCES: dict[str, Distance] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "cross": _cross,
}


def _paint(canvas: Array, centre: tuple[float, float], radius: float, rgb: Sequence[float], distance: Distance) -> None:
    """Blend a shape into the canvas in place, antialiased over one pixel."""
    low = [max(int(c - radius - 2), 0) for c in centre]
    high = [min(int(c + radius + 3), SIZE) for c in centre]
    y, x = np.mgrid[low[0] : high[0], low[1] : high[1]] + 0.5
    cover = np.clip(0.5 - radius * distance((y - centre[0]) / radius, (x - centre[1]) / radius), 0.0, 1.0)
    window = canvas[low[0] : high[0], low[1] : high[1]]
    window += cover[..., None] * (np.asarray(rgb) - window)


def _paint_mark(canvas: Array, mark: Mark) -> None:
    if mark.name == "frame":
        y, x = np.mgrid[0:SIZE, 0:SIZE]
        edge = np.minimum(np.minimum(y, x), np.minimum(SIZE - 1 - y, SIZE - 1 - x)) < _FRAME_WIDTH
        stripe = (y + x) % _FRAME_PERIOD < _FRAME_PERIOD // 2
        canvas[edge & stripe] = COLOURS["blue"]
        canvas[edge & ~stripe] = _WHITE
        return
    ground, plate, figure, distance = _MARK_STYLES[mark.name]
    _paint(canvas, mark.centre, mark.radius, ground, plate)
    _paint(canvas, mark.centre, mark.radius, figure, distance)


_MARK_STYLES: dict[str, tuple[tuple[int, int, int], Distance, tuple[int, int, int], Distance]] = {
    "badge": (_WHITE, _circle, (20, 150, 50), _tick),
    "key": (_BLACK, _square, _GOLD, _key),
    "sign": (COLOURS["red"], _circle, _WHITE, _bar),
}
