"""Draws the pages of a PDF in a process of its own, which the guard can end; `media.pdf` runs this file as a script.

A PDF of a few hundred bytes can keep a renderer busy for days or fill the memory, and what goes wrong in a renderer of
strangers' files must not go wrong in the guard. So this script shares nothing with the guard, not even an import.

Standard input: a line of JSON with the settings, then the file. Standard output: for each page a line of JSON and its
pixels, three bytes each; or one line of JSON with what the file is refused for.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from typing import Any

import pypdfium2 as pdfium

POINTS_PER_INCH = 72
MAX_TEXT = 50_000
"""Characters in the text layer of a page; a full page of small print has about 10,000."""


class RefusedError(Exception):
    """A PDF is refused: `unsupported`, over a `limit`, or `damaged`."""

    def __init__(self, kind: str, reason: str) -> None:
        self.kind = kind
        super().__init__(reason)


def draw(data: bytes, settings: dict[str, Any]) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yield the facts and the pixels of every page.

    Raises:
        RefusedError: The file is refused.
    """
    try:
        document = pdfium.PdfDocument(data)
    except pdfium.PdfiumError as error:
        if error.err_code in (pdfium.raw.FPDF_ERR_PASSWORD, pdfium.raw.FPDF_ERR_SECURITY):
            raise RefusedError("unsupported", "the PDF is encrypted: remove its password") from error
        raise
    scales = _checked_scales(document, settings)
    if "V8" not in pdfium.PDFIUM_INFO.flags:  # forms are drawn as filled in; a build with V8 would run their scripts
        document.init_forms()
    num_attachments = document.count_attachments()
    for index, scale in enumerate(scales):
        page = document[index]
        num_embedded = num_attachments + _num_attached(page)
        if num_embedded and not settings["drops_embedded_files"]:
            raise RefusedError(
                "unsupported",
                'the PDF has files inside it: remove them, or set media.pdf.on_embedded_files="drop" to guard its pages'
                " without them",
            )
        bitmap = page.render(scale=scale, rev_byteorder=True)
        facts = {
            "num_pages": len(scales),
            "size": [bitmap.width, bitmap.height],
            "dpi": scale * POINTS_PER_INCH,
            "num_embedded": num_embedded,
            "text": _text(page) if settings["keep_text"] else "",
        }
        yield facts, bitmap.to_pil().tobytes()
        bitmap.close()
        page.close()


def _checked_scales(document: Any, settings: dict[str, Any]) -> list[float]:
    """Check a file before a page is drawn, and return the pixels per point at which each page is."""
    if not len(document):
        raise RefusedError("damaged", "the PDF has no pages")
    if len(document) > settings["max_pages"]:
        limit = f"{settings['max_pages']:,} are allowed (media.pdf.max_pages)"
        raise RefusedError("limit", f"has {len(document):,} pages; at most {limit}")
    if document.get_formtype() == pdfium.raw.FORMTYPE_XFA_FULL:
        raise RefusedError("unsupported", "the PDF is a form that only Adobe's programs show: print it to a PDF")
    sizes = [document.get_page_size(index) for index in range(len(document))]
    if any(not (0 < side < math.inf) for size in sizes for side in size):
        raise RefusedError("damaged", "a page of the PDF has no size")
    wanted = settings["dpi"] / POINTS_PER_INCH
    most = settings["max_pixels"]
    # A little less, since sides are rounded up.
    scales = [min(wanted, 0.99 * math.sqrt(most / (width * height))) for width, height in sizes]
    pairs = zip(sizes, scales, strict=True)
    pixels = [math.ceil(width * scale) * math.ceil(height * scale) for (width, height), scale in pairs]
    if max(pixels) > most:
        raise RefusedError("limit", "a page of the PDF is too long and narrow to be drawn")
    if sum(pixels) > settings["max_total_pixels"]:
        limit = f"{settings['max_total_pixels']:,} are allowed"
        raise RefusedError("limit", f"its pages have {sum(pixels):,} pixels; at most {limit}: lower media.pdf.dpi")
    return scales


def _num_attached(page: Any) -> int:
    """Return the number of files that notes on a page hold."""
    raw, count = pdfium.raw, 0
    for index in range(raw.FPDFPage_GetAnnotCount(page)):
        annotation = raw.FPDFPage_GetAnnot(page, index)
        count += raw.FPDFAnnot_GetSubtype(annotation) == raw.FPDF_ANNOT_FILEATTACHMENT
        raw.FPDFPage_CloseAnnot(annotation)
    return count


def _text(page: Any) -> str:
    layer = page.get_textpage()
    if layer.count_chars() > MAX_TEXT:
        raise RefusedError("limit", f"a page's text layer has more than {MAX_TEXT:,} characters")
    return str(layer.get_text_bounded())


def _limit_memory(mib: int) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    resource.setrlimit(resource.RLIMIT_AS, (mib * 2**20, mib * 2**20))


def main() -> None:
    """Read a PDF from standard input and write its pages to standard output."""
    settings = json.loads(sys.stdin.buffer.readline())
    _limit_memory(settings["max_mib"])
    data = sys.stdin.buffer.read()
    write = sys.stdout.buffer.write
    try:
        for facts, pixels in draw(data, settings):
            write(json.dumps(facts).encode() + b"\n")
            write(pixels)
    except RefusedError as refused:
        write(json.dumps({"refused": refused.kind, "reason": str(refused)}).encode() + b"\n")
    except pdfium.PdfiumError:
        reason = "the PDF cannot be decoded: it is damaged"
        write(json.dumps({"refused": "damaged", "reason": reason}).encode() + b"\n")


if __name__ == "__main__":
    main()
