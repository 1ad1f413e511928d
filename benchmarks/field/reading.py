"""How much small text Tesseract still reads on perturbed copies of screens.

Run: python -m benchmarks.field.reading --cache FOLDER. Tesseract comes from Debian's packages (bookworm, amd64).
"""

from __future__ import annotations

import argparse
import io
import math
import os
import re
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.field.copies import Setting, add_grid_options, grid, to_image
from benchmarks.field.packages import Package, PackageError, add_cache_option, fetch_all
from benchmarks.field.screens import Screen, screens, tokens_of
from smoothguard_guardrail.evaluation.report import Section, Table

PACKAGES = tuple(
    Package(kind="debian", name=name, version=version, sha256=sha256)
    for name, version, sha256 in (
        ("tesseract-ocr", "5.3.0-2", "311fed91c7311cfee54c28a0f21d700377b8131a9d114628d36d2563f99e1730"),
        ("libtesseract5", "5.3.0-2", "19b1719f30235eaf209866b219d4dbdd4dddd813758a8d5b9715c78c40702ff1"),
        ("tesseract-ocr-eng", "1:4.1.0-2", "9242d054563262398f8cf41fbd96fcc72f9dde70db16de18539882a6cff74f9d"),
        ("liblept5", "1.82.0-3+b3", "cddc18cffc38bb1839f2b5336822646b34dafc5dd40468b658d26c20e0eb97af"),
        ("libwebpmux3", "1.2.4-0.2+deb12u1", "cc7d04d56ff8112ef5ed94050b0a440a9b4cea9d1d6f97e2a4016c8cc042c2f1"),
    )
)


SIGMAS = (0.0, 0.05, 0.1)
"""For the field study."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Tesseract, from unpacked packages.

    Args:
        folders: Of the packages.
    """

    folders: Sequence[Path]

    def read(self, bands: Sequence[torch.Tensor]) -> Counter[str]:
        """Return the tokens that are read on the bands of one image, with their counts."""
        return Counter(token for band in bands for token in tokens_of(self._text(band)))

    def check(self) -> None:
        """Raise a `PackageError` unless Tesseract starts here."""
        try:
            subprocess.run([self._program(), "--version"], env=self._environment(), check=True, capture_output=True)  # noqa: S603
        except (OSError, subprocess.CalledProcessError) as error:
            reason = getattr(error, "stderr", b"") or str(error).encode()
            raise PackageError(f"Tesseract does not start here: {reason.decode(errors='replace').strip()}") from None

    def _text(self, band: torch.Tensor) -> str:
        command, encoded = [self._program(), "stdin", "stdout", "-l", "eng"], io.BytesIO()
        to_image(band).save(encoded, format="PPM")
        done = subprocess.run(  # noqa: S603
            command, input=encoded.getvalue(), env=self._environment(), check=True, capture_output=True
        )
        return done.stdout.decode("utf-8", errors="replace")

    def _program(self) -> str:
        return str(self.folders[0] / "usr/bin/tesseract")

    def _environment(self) -> dict[str, str]:
        libraries = [str(path) for folder in self.folders for path in folder.glob("usr/lib/*-linux-gnu")]
        data = next(path.parent for folder in self.folders for path in folder.rglob("eng.traineddata"))
        return {
            **os.environ,
            "LD_LIBRARY_PATH": ":".join(libraries),
            "TESSDATA_PREFIX": str(data),
            "OMP_THREAD_LIMIT": "1",
        }


def majority(readings: Sequence[Counter[str]]) -> Counter[str]:
    """Return every token as often as at least half of the readings have it."""
    needed = math.ceil(len(readings) / 2)
    counts: dict[str, list[int]] = {}
    for token in {token for reading in readings for token in reading}:
        counts[token] = sorted((reading[token] for reading in readings), reverse=True)
    return Counter({token: ranked[needed - 1] for token, ranked in counts.items()})


def recall(reading: Counter[str], truth: Sequence[str]) -> float:
    """Return the share of the tokens of a screen that a reading has."""
    return (Counter(truth) & reading).total() / len(truth)


def measure(reader: Reader, setting: Setting, screen: Screen, num_copies: int) -> tuple[float, float]:
    """Return the mean recall of single copies, and that of their token-wise majority."""
    number = num_copies if setting.sigma else 1
    readings = [reader.read(bands) for bands in setting.copies(screen.image, number, seed=0)]
    single = sum(recall(reading, screen.tokens) for reading in readings) / number
    return single, recall(majority(readings), screen.tokens)


def reading_section(cache: Path, *, num_screens: int, num_copies: int) -> Section:
    """Report how many words Tesseract still reads; there is no attack, since it has no gradient."""
    title = "A reader of text"
    try:
        reader = Reader([package.fetch(cache) for package in PACKAGES])
        reader.check()
    except PackageError as error:
        return Section(title=title, text=(f"Not measured: {error}.",))
    rows = []
    for screen in screens()[:: max(1, len(screens()) // num_screens)][:num_screens]:
        found = [
            measure(reader, Setting(sigma=sigma, max_shift=5 if sigma else 0), screen, num_copies) for sigma in SIGMAS
        ]
        rows.append((screen.name, found[0][0], *(recall for pair in found[1:] for recall in pair)))
    return Section(
        title=title,
        text=(
            f"Tesseract 5.3 on drawn screens at the 1024 pixels that the guard sends to an unknown model: the share of "
            f"words and numbers read, on single copies and by the majority of {num_copies}. Shrinking to "
            f"1024 pixels costs what the column without noise lacks. It has no gradient, so it was not attacked.",
        ),
        tables=(
            Table(
                title="Share of tokens read",
                columns=(
                    "screen",
                    "no noise",
                    *(f"{sigma:g}, {of}" for sigma in SIGMAS[1:] for of in ("copies", "majority")),
                ),
                rows=tuple(rows),
            ),
        ),
    )


def main() -> None:
    """Print the recall of every screen in every cell of the grid, as `single copy / majority`."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_cache_option(parser)
    add_grid_options(parser, resolutions=["auto", None])
    parser.add_argument("--screens", default="", help="only screens whose name this regular expression matches")
    options = parser.parse_args()
    reader = Reader(fetch_all(PACKAGES, options.cache))
    try:
        reader.check()
    except PackageError as error:
        raise SystemExit(str(error)) from None
    chosen = [screen for screen in screens() if re.search(options.screens, screen.name)]
    print("| resolution | sigma | shift | mean | " + " | ".join(screen.name for screen in chosen) + " |")
    print("|---" * (4 + len(chosen)) + "|", flush=True)
    for setting in grid(options):
        found = [measure(reader, setting, screen, options.num_copies) for screen in chosen]
        mean = tuple(sum(column) / len(found) for column in zip(*found, strict=True))
        cells = " | ".join(f"{single:.2f} / {vote:.2f}" for single, vote in [mean, *found])
        print(f"| {setting.resolution or 'own'} | {setting.sigma:g} | {setting.max_shift} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
