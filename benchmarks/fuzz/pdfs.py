"""Hostile PDFs: drawing operators, objects and damage."""

from __future__ import annotations

import re
import zlib
from random import Random

from benchmarks.fuzz.damage import Case, damaged

_NUMBERS = (b"0", b"-1", b"1e9", b"-1e9", b"2147483648", b"0.0001", b"99999999999999999999", b"null", b"(x)", b"[1 2]")
_OPERATORS = (
    *(b"q", b"Q", b"0 0 595 842 re f", b"1 0 0 1 9 9 cm", b"/X Do", b"/I Do", b"/S sh", b"100 w 0 0 m 595 842 l S"),
    *(b"BT /F 20 Tf 9 9 Td (text) Tj ET", b"BT 3 Tr /F 9e9 Tf (x) Tj ET", b"/Pattern cs /P scn 0 0 595 842 re f"),
    *(b"/G gs", b"[0.001 1] 0 d", b"BI /W 9 /H 9 /BPC 8 /CS /RGB ID x EI", b"0 0 m 1e9 1e9 1 1 -1e9 2 c s", b"W n"),
)
_BOXES = (b"0 0 595 842", b"0 0 595 842", b"0 0 1 1", b"0 0 14400 14400", b"0 0 14400 .01", b"9 9 0 0", b"0 0 1e30 1")


def hostile_pdf(rng: Random) -> Case:
    """Return a PDF of a few pages that draws at random, damaged or not."""
    data = _pdf(rng)
    return damaged("pdf", data, rng, (_set_number, _swap_objects), lambda: _pdf(rng), _same)


def _pdf(rng: Random) -> bytes:
    form = b"/Type/XObject/Subtype/Form/BBox[0 0 99 99]/Resources 3 0 R"
    tile = b"/Type/Pattern/PatternType 1/PaintType 1/TilingType 1/BBox[0 0 9 9]/XStep %b/YStep 9/Resources 3 0 R"
    image = b"/Subtype/Image/Width %d/Height 9/ColorSpace/DeviceRGB/BitsPerComponent 8"
    attached = b"/Names<</EmbeddedFiles<</Names[(a)(b)]>>>>"
    written = [
        b"<</Type/Catalog/Pages 2 0 R%b>>" % rng.choice((b"", b"", b"/AcroForm<</Fields[]/XFA[]>>", attached)),
        b"",
        b"<</XObject<</X 4 0 R/I 5 0 R>>/Pattern<</P 6 0 R>>/Shading<</S 7 0 R>>/ExtGState<</G 8 0 R>>"
        b"/Font<</F 9 0 R>>>>",
        _stream(_drawing(rng), form, rng),
        _stream(rng.randbytes(243), image % rng.choice((9, 9, 30_000)), rng),
        _stream(_drawing(rng), tile % rng.choice((b"9", b".01", b"0")), rng),
        b"<</ShadingType 2/ColorSpace/DeviceRGB/Coords[0 0 %b 9]/Function 10 0 R>>" % rng.choice(_NUMBERS),
        b"<</ca .5/BM/Multiply/SMask<</S/Luminosity/G 4 0 R>>>>",
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        b"<</FunctionType 2/Domain[0 1]/C0[0 0 0]/C1[1 1 1]/N %b>>" % rng.choice(_NUMBERS),
    ]
    kids = []
    for _ in range(rng.choice((1, 1, 2, 30))):
        kids.append(b"%d 0 R" % (len(written) + 1))
        content = b"%d 0 R" % (len(written) + 2)
        written.append(b"<</Type/Page/Parent 2 0 R/MediaBox[%b]/Contents %b>>" % (rng.choice(_BOXES), content))
        written.append(_stream(_drawing(rng), b"", rng))
    written[1] = b"<</Type/Pages/Kids[%b]/Count %d/Resources 3 0 R>>" % (b" ".join(kids), len(kids))
    file, places = b"%PDF-1.7\n", b""
    for number, each in enumerate(written, start=1):
        places += b"%010d 00000 n \n" % len(file)
        file += b"%d 0 obj\n%b\nendobj\n" % (number, each)
    size = len(written) + 1
    table = b"xref\n0 %d\n0000000000 65535 f \n%btrailer<</Root 1 0 R/Size %d>>\nstartxref\n" % (size, places, size)
    return file + table + b"%d\n%%%%EOF\n" % len(file)


def _drawing(rng: Random) -> bytes:
    return b"\n".join(rng.choice(_OPERATORS) for _ in range(rng.choice((1, 5, 40))))


def _stream(data: bytes, entries: bytes, rng: Random) -> bytes:
    if rng.random() < 0.5:
        data, entries = zlib.compress(data), entries + b"/Filter/FlateDecode"
    return b"<<%b/Length %d>>stream\n%b\nendstream" % (entries, len(data), data)


def _set_number(data: bytes, rng: Random) -> bytes:
    numbers = list(re.finditer(rb"(?<=[ \[])\d+(?=[ \]/>])", data))
    start, stop = rng.choice(numbers).span() if numbers else (0, 0)
    return data[:start] + rng.choice(_NUMBERS) + data[stop:]


def _swap_objects(data: bytes, rng: Random) -> bytes:
    """Refer to one object where another is meant, which makes circles."""
    references = list(re.finditer(rb"\d+ 0 R", data))
    start, stop = rng.choice(references).span() if references else (0, 0)
    return data[:start] + b"%d 0 R" % rng.randrange(12) + data[stop:]


def _same(data: bytes) -> bytes:
    return data  # nothing in a PDF guards against damage
