"""PDF: from a file to images of its pages, and from images to a new file.

Pages are drawn as people see them, annotations and filled forms included. No script of the file runs, and nothing of
the file but these images goes on.
"""

from __future__ import annotations

import io
import math
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image

from smoothguard_guardrail.errors import MediaError, MediaLimitError, UnsupportedMediaError
from smoothguard_guardrail.media.formats import Encoded
from smoothguard_guardrail.media.image import DecodedImage, decode_pillow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smoothguard_guardrail.config import MediaLimits, PdfConfig
    from smoothguard_guardrail.media.image import SizeRule

PDF = "application/pdf"
_POINTS_PER_INCH = 72
_PDFIUM = Lock()
"""pdfium must never run in two threads at once."""


class Page(NamedTuple):
    """A page as it is seen, and as it can be selected and copied."""

    image: DecodedImage
    text: str
    """Its text layer; empty unless asked for."""


def render_pages(
    data: bytes, *, config: PdfConfig, limits: MediaLimits, path: str, wanted: SizeRule | None = None
) -> list[Page]:
    """Draw the pages of a PDF.

    Args:
        data: The file.
        config: At what resolution, and how many pages at most.
        limits: On the pixels of a page, which is drawn smaller to keep it, and of all pages.
        path: Path of the block, for the error.
        wanted: The size to return a page at; None: that at which it is drawn.

    Raises:
        UnsupportedMediaError: `pypdfium2` is missing, or the file is encrypted, has files inside it, or is a form that
            only Adobe's reader shows.
        MediaLimitError: It has too many pages or pixels.
        MediaError: It is damaged, or has no pages.
    """
    pdfium = _pdfium(path)
    with _PDFIUM:
        try:
            with pdfium.PdfDocument(data) as document:
                scales = _check(document, config, limits, path)
                return [_page(document, index, scale, config, wanted) for index, scale in enumerate(scales)]
        except pdfium.PdfiumError as error:
            if error.err_code in (pdfium.raw.FPDF_ERR_PASSWORD, pdfium.raw.FPDF_ERR_SECURITY):
                raise UnsupportedMediaError("the PDF is encrypted: remove its password", path=path) from error
            raise MediaError("the PDF cannot be decoded: it is damaged", path=path) from error


def write_pdf(pages: Sequence[Encoded]) -> Encoded:
    """Write a PDF of one image per page, without a loss: JPEG stays as it is, PNG is compressed likewise.

    A page is one point wide per pixel, so no program that draws it at 72 dpi or more shrinks the image and averages
    noise away.

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


def _pdfium(path: str) -> Any:
    try:
        import pypdfium2
    except ImportError as error:
        reason = 'to read a PDF, pip install "smoothguard-guardrail[media]"'
        raise UnsupportedMediaError(reason, path=path) from error
    return pypdfium2


def _check(document: Any, config: PdfConfig, limits: MediaLimits, path: str) -> list[float]:
    """Check a file before a page is drawn, and return the pixels per point at which each is."""
    num_pages = len(document)
    if not num_pages:
        raise MediaError("the PDF has no pages", path=path)
    if num_pages > config.max_pages:
        raise MediaLimitError(f"has {num_pages:,} pages; at most {config.max_pages:,} are allowed", path=path)
    sizes = [document.get_page_size(index) for index in range(num_pages)]
    scales = [_scale(width, height, config.dpi, limits.max_pixels) for width, height in sizes]
    pairs = zip(sizes, scales, strict=True)
    total = sum(math.ceil(width * scale) * math.ceil(height * scale) for (width, height), scale in pairs)
    if total > limits.max_total_pixels:
        raise MediaLimitError(
            f"its pages have {total:,} pixels; at most {limits.max_total_pixels:,} are allowed", path=path
        )
    return scales


def _scale(width: float, height: float, dpi: int, max_pixels: int) -> float:
    """Return the pixels per point at which a page is drawn: fewer than asked for where it would be too large."""
    if not (0 < width < math.inf and 0 < height < math.inf):
        return 0.0
    return min(dpi / _POINTS_PER_INCH, math.sqrt(max_pixels / (width * height)) * (1 - 1e-3))


def _page(document: Any, index: int, scale: float, config: PdfConfig, wanted: SizeRule | None) -> Page:
    page = document[index]
    bitmap = page.render(scale=scale, rev_byteorder=True)
    image = decode_pillow(bitmap.to_pil(), wanted)
    bitmap.close()
    text = page.get_textpage().get_text_bounded() if config.keep_text else ""
    page.close()
    if scale < config.dpi / _POINTS_PER_INCH:
        image = image._replace(notes=(*image.notes, f"drawn at {scale * _POINTS_PER_INCH:.3g} dpi"))
    return Page(image, text)
