"""Media in plain text, in every encoding that a model or tool undoes at once, and ordinary text that is none."""

import base64
import contextlib
import gzip
import html
import json
import textwrap
import zlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage

from smoothguard_guardrail.config import MediaConfig, MediaLimits
from smoothguard_guardrail.errors import UnsupportedMediaError
from smoothguard_guardrail.media import prepare
from smoothguard_guardrail.media.strings import find_spans
from tests.media import corpus

MEDIA = {"png": corpus.PNG, "jpeg": corpus.JPEG, "wav": corpus.WAV}
KINDS = {"png": "image", "jpeg": "image", "wav": "audio"}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def uri(data: bytes) -> str:
    return f"data:image/png;base64,{b64(data)}"


def wrapped(width: int, gap: str) -> Callable[[bytes], str]:
    return lambda data: gap.join(textwrap.wrap(b64(data), width))


PERTURBED: dict[str, Callable[[bytes], str]] = {
    "base64": b64,
    "base64url": lambda data: base64.urlsafe_b64encode(data).decode().rstrip("="),
    "data URI": uri,
    "JSON slashes": lambda data: b64(data).replace("/", "\\/"),
    "JSON unicode": lambda data: b64(data).replace("+", "\\u002b").replace("/", "\\u002F").replace("=", "\\u003d"),
    "JSON in JSON": lambda data: b64(data).replace("/", "\\\\/").replace("+", "\\\\u002b"),
    "every character in JSON": lambda data: "".join(f"\\u{ord(character):04x}" for character in b64(data)),
    "JSON data URI": lambda data: uri(data).replace("/", "\\/"),
    "HTML numbers": lambda data: b64(data).replace("+", "&#43;").replace("/", "&#x2F;").replace("=", "&#061;"),
    "HTML names": lambda data: b64(data).replace("+", "&plus;").replace("/", "&sol;").replace("=", "&equals;"),
    "HTML twice": lambda data: html.escape(b64(data).replace("+", "&#43;").replace("/", "&#x2F;")),
    "every character in HTML": lambda data: "".join(f"&#{ord(character)};" for character in b64(data)),
    "percents": lambda data: quote(b64(data), safe=""),
    "percents twice": lambda data: quote(quote(b64(data), safe=""), safe=""),
    "every character in percents": lambda data: "".join(f"%{ord(character):02X}" for character in b64(data)),
    "data URI in percents": lambda data: quote(uri(data), safe=""),
    "data URI in percents twice": lambda data: quote(quote(uri(data), safe=""), safe=""),
    "lines of 76": wrapped(76, "\n"),
    "lines of 64": wrapped(64, "\r\n"),
    "lines of 57": wrapped(57, "\\n"),
    "lines of 19": wrapped(19, "\\r\\n"),
    "indented": wrapped(76, "\n        "),
    "quoted": wrapped(72, "\n> > "),
    "continued": wrapped(72, "\\\n"),
    "groups of 4": wrapped(4, " "),
    "single characters": wrapped(1, " "),
    "zero-width": wrapped(40, "\u200b"),
    "wrapped data URI": lambda data: "data:image/png;base64,\n" + wrapped(76, "\n")(data),
}
REFUSED: dict[str, Callable[[bytes], str]] = {
    "data URI of percents": lambda data: "data:image/png," + "".join(f"%{byte:02x}" for byte in data),
    "gzip": lambda data: b64(gzip.compress(data)),
    "zlib": lambda data: b64(zlib.compress(data)),
    "hex": bytes.hex,
    "hex in capitals": lambda data: data.hex().upper(),
    "hex in pairs": lambda data: data.hex(" "),
    "hex with colons": lambda data: data.hex(":"),
    "C array": lambda data: ", ".join(f"0x{byte:02x}" for byte in data),
    "bytes literal": lambda data: "".join(f"\\x{byte:02x}" for byte in data),
    "mixed bytes literal": lambda data: repr(data)[2:-1],
    "octal": lambda data: "".join(f"\\{byte:03o}" for byte in data),
    "binary string": lambda data: data.decode("latin-1"),
}
medium = pytest.mark.parametrize("name", MEDIA)


def ready(text: str, policy: str = "error") -> list[str]:
    limits = MediaLimits(max_count=1_000)
    records = prepare([HumanMessage(text)], MediaConfig(on_unsupported=policy, limits=limits)).records
    return [f"{record.action} {record.kind}" for record in records]


@medium
@pytest.mark.parametrize("encoding", PERTURBED)
def test_encoded_media_are_perturbed(encoding: str, name: str) -> None:
    encoded = PERTURBED[encoding](MEDIA[name])
    before, after = "Look at this: '", "'. What is it?"
    assert ready(before + encoded + after) == [f"perturbed {KINDS[name]}"]
    [span] = find_spans(before + encoded + after)
    assert span.start == len(before)
    assert len(before + encoded) - 6 <= span.stop <= len(before + encoded)


@medium
@pytest.mark.parametrize("encoding", REFUSED)
def test_media_that_cannot_be_written_back_are_refused(encoding: str, name: str) -> None:
    text = f"Look at this: '{REFUSED[encoding](MEDIA[name])}'. What is it?"
    with pytest.raises(UnsupportedMediaError):
        ready(text)
    assert ready(text, "drop")[0] in (f"dropped {KINDS[name]}", "dropped unknown")


words = st.lists(
    st.sampled_from(
        ["a", "cat", "12", "The", "mat,", "{}", ";", ":", "\n", "\\", "%", "&", "é", "日本", "<p>", "data:", "x=1"]
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(
    words,
    words,
    st.sampled_from(list(MEDIA)),
    st.sampled_from(list(PERTURBED | REFUSED)),
    st.sampled_from(" \n\"'(<,:"),
)
def test_media_anywhere_in_text_never_pass(
    before: list[str], after: list[str], name: str, encoding: str, mark: str
) -> None:
    encoded = (PERTURBED | REFUSED)[encoding](MEDIA[name])
    text = " ".join(before) + mark + encoded + mark + " ".join(after)
    spans = find_spans(text)
    assert any(span.sniffed is None or span.sniffed.kind == KINDS[name] for span in spans)
    with contextlib.suppress(UnsupportedMediaError):
        assert ready(text)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(list(MEDIA)),
    st.integers(1, 90),
    st.sampled_from(["\n", " ", "\n> ", "\r\n\t"]),
)
def test_base64_in_lines_of_any_width_is_perturbed(name: str, width: int, gap: str) -> None:
    assert ready(wrapped(width, gap)(MEDIA[name])) == [f"perturbed {KINDS[name]}"]


def test_prose_after_lines_is_kept() -> None:
    for data in MEDIA.values():
        lines = base64.encodebytes(data).decode()
        [span] = find_spans(f"Screenshot:\n\n{lines}\n\nDescribe the image please\n")
        assert span.stop == 13 + len(lines) - 1


def test_two_media_stay_two() -> None:
    jpeg, png = b64(corpus.JPEG).rstrip("="), b64(corpus.PNG).rstrip("=")
    assert ready(f"{jpeg}\n{png}") == ["perturbed image", "perturbed image"]
    assert ready(json.dumps([jpeg, png])) == ["perturbed image", "perturbed image"]


PEM = (
    "-----BEGIN CERTIFICATE-----\n"
    + base64.encodebytes(bytes(range(48, 255)) * 5).decode()
    + "-----END CERTIFICATE-----"
)
JWT = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (b'{"alg":"HS256"}', b'{"sub":"1"}' * 9))
ORDINARY = {
    "hashes": "\n".join(bytes((7 * index + step) % 256 for step in range(64)).hex() for index in range(300)),
    "shortened media": "GET data:image/png;base64,iVBORw0KGgoAAAANSUhEUg... 89504e470d0a1a0a...\n" * 2_000,
    "magic numbers": r"{b'\x89PNG\r\n\x1a\n': 'png', b'\xff\xd8\xff': 'jpeg', b'\x00\x00\x01\xba': 'mpg'}" * 9,
    "matrix": "0 0 0 0 0 0 0 0 0 2 0 0\n4 0 6 3 0 0 0 4 0 0 0 0\n" * 500,
    "JWT": f"Authorization: Bearer {JWT}.{'s5_-' * 12}",
    "PEM": PEM,
    "SVG": "<svg xmlns='http://www.w3.org/2000/svg'><path d='M10 10L20 20z" + "l1,2" * 400 + "'/></svg>",
    "SVG in base64": "url(data:image/svg+xml;base64," + b64(b"<svg xmlns='x'>" + b"<g/>" * 300 + b"</svg>") + ")",
    "CSS": "a{background:url(data:image/gif;base64,R0lGODlh...)}" * 40,
    "URL": "https://example.com/a/b?q=%C3%A9%20x&next=https%3A%2F%2Fe.org%2F%3Fa%3D1&amp;u=" + "a1B2" * 50,
    "minified": "!function(e,t){var n=e[t]||{};return n.a=/[\\x00-\\x1f]/g,n.b='\\u002b\\n',e&&t}(this,'x');" * 50,
    "comments": "// a comment\n//////////////////////////////////////////////\nhttps://a.b//c\n" * 500,
    "logs": "2024-01-01T00:00:00.000Z INFO [ab12cd34] 127.0.0.1:8080 GET /9j/4/x?y=%2F&z 200 \\n C:\\new\\x41\n" * 200,
    "hex dump": "00000000  7f 45 4c 46 02 01 01 00  00 00 00 00 00 00 00 00  |.ELF............|\n" * 50,
    "signature": "iVBORw0KGgoAAAANSUhEUg is how a PNG begins in base64, and 89 50 4e 47 0d 0a in hex, R0lGODlh a GIF",
    "this file": Path(__file__).read_text(encoding="utf-8"),
    "headless": b64(corpus.PNG)[12:],
}


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_text_holds_no_media(name: str) -> None:
    assert ready(ORDINARY[name]) == []


FRAGMENTS = [
    *(
        "data:",
        "data:image/png,",
        "data:image/png;base64,",
        "%41",
        "%25",
        "%",
        "&#43;",
        "&",
        "\\n",
        "\\",
        "\\x4",
        "\\u00",
    ),
    *(
        "/9j/",
        "UklGR.",
        "eJxx.",
        "H4sI",
        "ffd8ff ",
        "\x89PNG\r\n\x1a\n",
        "\xff\xd8\xff",
        "GIF8",
        "A ",
        " ",
        "\n",
        "'",
        "=",
        "é",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("unit", FRAGMENTS)
def test_a_long_repetition_is_read_in_one_go(unit: str) -> None:
    """Work that grows with the square of the length would take an hour here."""
    text = unit * (500_000 // len(unit))
    for span in find_spans(text):
        assert 0 <= span.start < span.stop <= len(text)


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=60), st.integers(1, 40))
def test_no_text_is_too_odd(fragments: list[str], times: int) -> None:
    text = "".join(fragments) * times
    for span in find_spans(text):
        assert 0 <= span.start < span.stop <= len(text)


def test_a_data_uri_without_data_at_the_end_is_text() -> None:
    assert find_spans("An inline image begins with data:image/png;base64,") == []
