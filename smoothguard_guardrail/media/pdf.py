"""PDF: from a file to images of its pages, and from images to a new file.

Pages are drawn as people see them, notes and filled forms included. No script of the file runs, and nothing of the
file but these images goes on.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
from importlib.util import find_spec
from multiprocessing.spawn import get_executable
from pathlib import Path
from threading import Lock, Timer
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

from PIL import Image

from smoothguard_guardrail.errors import MediaError, MediaLimitError, UnsupportedMediaError
from smoothguard_guardrail.media.formats import Encoded
from smoothguard_guardrail.media.image import DecodedImage, decode_pillow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from smoothguard_guardrail.config import MediaLimits, PdfConfig
    from smoothguard_guardrail.media.image import SizeRule

PDF = "application/pdf"
_SCRIPT = Path(__file__).with_name("pdf_process.py")
_MAX_MIB = 1024
"""Address space of the process that draws: enough for a page of 24.5 million pixels."""
_INHERITED = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "SYSTEMROOT", "TMP", "TEMP")
"""What a process needs of the environment to start Python; no secret is among it."""
_ERRORS = {"unsupported": UnsupportedMediaError, "limit": MediaLimitError, "damaged": MediaError}
_PDFIUM = Lock()
"""pdfium must never run in two threads of a process at once."""


class Page(NamedTuple):
    """A page as it is seen, and as it can be selected and copied."""

    image: DecodedImage
    text: str
    """Its text layer; empty unless asked for."""


def render_pages(
    data: bytes, *, config: PdfConfig, limits: MediaLimits, path: str, wanted: SizeRule | None = None
) -> list[Page]:
    """Draw the pages of a PDF, in a process that is ended if it takes too long or too much memory.

    Args:
        data: The file.
        config: At what resolution, how many pages at most, and how long it may take.
        limits: On the pixels of a page, which is drawn smaller to keep it, and of all pages.
        path: Path of the block, for the error.
        wanted: The size to return a page at; None: that at which it is drawn.

    Raises:
        UnsupportedMediaError: `pypdfium2` is missing, or the file is encrypted, has files inside it, or is a form that
            only Adobe's programs show.
        MediaLimitError: It has too many pages or pixels, or takes too long or too much memory.
        MediaError: It is damaged, or has no pages.
    """
    if find_spec("pypdfium2") is None:
        raise UnsupportedMediaError('to guard a PDF, pip install "smoothguard-guardrail[media]"', path=path)
    settings = {
        "dpi": config.dpi,
        "max_pages": config.max_pages,
        "max_pixels": limits.max_pixels,
        "max_total_pixels": limits.max_total_pixels,
        "max_mib": _MAX_MIB,
        "keep_text": config.keep_text,
        "drops_embedded_files": config.on_embedded_files == "drop",
    }
    with subprocess.Popen(  # noqa: S603 - our own script, by our own Python
        [get_executable(), "-P", str(_SCRIPT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={name: os.environ[name] for name in _INHERITED if name in os.environ},
    ) as process:
        timer = Timer(config.timeout, process.kill)
        timer.start()
        try:
            _send(cast("IO[bytes]", process.stdin), json.dumps(settings).encode() + b"\n", data)
            return list(_pages(cast("IO[bytes]", process.stdout), config, limits, path, wanted))
        finally:
            timer.cancel()
            process.kill()


def _send(pipe: IO[bytes], *parts: bytes) -> None:
    try:
        with pipe:
            for part in parts:
                pipe.write(part)
    except OSError:  # the process has ended; what it wrote says why
        pass


def _pages(
    pipe: IO[bytes], config: PdfConfig, limits: MediaLimits, path: str, wanted: SizeRule | None
) -> Iterator[Page]:
    num_pages, number = 1, 0
    while number < num_pages:
        facts = _facts(pipe.readline())
        if "refused" in facts:
            raise _ERRORS[facts["refused"]](facts["reason"], path=path)
        width, height = facts.get("size", (0, 0))
        if width * height > limits.max_pixels:
            raise MediaLimitError(f"has a page of {width} x {height} pixels", path=path)
        pixels = pipe.read(3 * width * height)
        if not pixels or len(pixels) < 3 * width * height:
            reason = f"cannot be drawn in {config.timeout:g} s (media.pdf.timeout) and {_MAX_MIB} MiB"
            raise MediaLimitError(reason, path=path)
        image = decode_pillow(Image.frombytes("RGB", (width, height), pixels), wanted)
        yield Page(image._replace(notes=_notes(facts, config)), facts["text"])
        num_pages, number = facts["num_pages"], number + 1


def _facts(line: bytes) -> dict[str, Any]:
    """Return what the process says about a page; nothing if it was ended, or broke, before the line was complete."""
    try:
        return dict(json.loads(line))
    except ValueError:
        return {}


def _notes(facts: dict[str, Any], config: PdfConfig) -> tuple[str, ...]:
    notes = [f"drawn at {facts['dpi']:.3g} dpi"] if facts["dpi"] < 0.999 * config.dpi else []
    if facts["num_embedded"]:
        notes.append(f"embedded files left out: {facts['num_embedded']}")
    return tuple(notes)


def write_pdf(pages: Sequence[Encoded]) -> Encoded:
    """Write a PDF of one image per page, without a loss: JPEG as it is, the pixels of a PNG compressed likewise.

    A page is one point wide per pixel, so no program that draws it at 72 dpi or more shrinks the image, which would
    average noise away.

    Args:
        pages: PNG or JPEG.
    """
    import pypdfium2 as pdfium

    buffer = io.BytesIO()
    with _PDFIUM, pdfium.PdfDocument.new() as document:
        for encoded in pages:
            image = pdfium.PdfImage.new(document)
            with Image.open(io.BytesIO(encoded.data)) as picture:
                width, height = picture.size
                if encoded.mime_type == "image/jpeg":
                    image.load_jpeg(io.BytesIO(encoded.data), inline=True)
                else:
                    image.set_bitmap(pdfium.PdfBitmap.from_pil(picture))
            image.set_matrix(pdfium.PdfMatrix().scale(width, height))
            page = document.new_page(width, height)
            page.insert_obj(image)
            page.gen_content()
            page.close()
        document.save(buffer)
    return Encoded.of(buffer.getvalue(), PDF)
