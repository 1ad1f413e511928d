"""Screens full of small text, drawn with Pillow, and what they say."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

import torch
from PIL import Image, ImageDraw, ImageFont

from benchmarks.field.copies import to_tensor

SENTENCES = (
    "The invoice of 14 March lists 3 items and a total of 1,284.50 euros.",
    "Please send the signed contract to the office before Friday evening.",
    "Flight LH 2047 leaves gate 38 at 17:25 and lands in Lisbon at 20:10.",
    "Her blood pressure was 128 over 82, and she takes 50 mg every morning.",
    "Press Save to keep your changes, or Cancel to return to the list.",
    "The password must have at least 12 characters and one number.",
    "Two pumps failed last winter because the filters were never cleaned.",
    "Revenue grew by 7.4 percent while costs fell to 961 million.",
    "Turn left at the library, then walk 400 metres along the river.",
    "This build failed with 6 errors and 19 warnings in module parser.",
    "Store the vaccine between 2 and 8 degrees and away from light.",
    "Nobody answered the phone, so we left a message with the porter.",
    "Your order 77310 was delivered to the neighbour on the third floor.",
    "The committee meets again on 9 October to discuss the new budget.",
    "Mix the flour with 250 grams of butter and a pinch of salt.",
    "All tickets for the concert in Vienna were sold within an hour.",
)
LIGHT, DARK = ((255, 255, 255), (0, 0, 0)), ((30, 30, 34), (212, 212, 212))


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """A drawn screen.

    Args:
        name: For the table.
        image: Float32 (3, height, width) in [0, 1].
        tokens: The words and numbers on it, in order.
    """

    name: str
    image: torch.Tensor
    tokens: list[str]


def tokens_of(text: str) -> list[str]:
    """Return the words and numbers of two or more characters, in lower case."""
    return re.findall(r"[a-z0-9]{2,}", text.lower())


def draw(
    name: str, width: int, height: int, font_size: int, *, dark: bool = False, num_lines: int = 12, seed: int = 0
) -> Screen:
    """Draw a number of lines, spread over the height of the screen.

    Args:
        name: For the table.
        width: In pixels.
        height: In pixels.
        font_size: In pixels.
        dark: Light text on dark instead of black on white.
        num_lines: At most; fewer if they do not fit.
        seed: Chooses the sentences.
    """
    paper, ink = DARK if dark else LIGHT
    image = Image.new("RGB", (width, height), paper)
    font, pen, chance = ImageFont.load_default(font_size), ImageDraw.Draw(image), random.Random(seed)  # noqa: S311
    step = max(round(font_size * 1.6), (height - 80) // num_lines)
    lines = []
    for top in range(40, height - 40 - step + 1, step):
        line = ""
        for sentence in chance.sample(SENTENCES, len(SENTENCES)):
            longer = f"{line} {sentence}".strip()
            if font.getlength(longer) > min(width - 80, font_size * 60):
                break
            line = longer
        if not line:  # one sentence is too long for the width
            words = chance.choice(SENTENCES).split()
            while font.getlength(" ".join(words)) > width - 80:
                words.pop()
            line = " ".join(words)
        pen.text((40, top), line, font=font, fill=ink)
        lines.append(line)
    return Screen(name=name, image=to_tensor(image), tokens=tokens_of(" ".join(lines)))


def screens() -> list[Screen]:
    """Return the screens of the benchmark: screenshots in five sizes of text, a long page and a phone's screen."""
    shots = [draw(f"screenshot, {size} px", 1600, 1200, size, seed=size) for size in (10, 13, 16, 20, 24)]
    dark = [draw(f"screenshot, {size} px, dark", 1600, 1200, size, dark=True, seed=size + 1) for size in (13, 20)]
    page = draw("page 1280 x 5200, 16 px", 1280, 5200, 16, num_lines=30, seed=3)
    phone = draw("phone 1080 x 2340, 24 px", 1080, 2340, 24, num_lines=24, seed=4)
    return [*shots, *dark, page, phone]
