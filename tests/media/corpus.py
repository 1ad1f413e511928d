"""Messages in every shape in which chat models are sent media, and shapes that only an attacker would send.

`CASES` is what the scanner's tests and the guard's end-to-end test both run over; `originals` says what must never
arrive at a model.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import soundfile
import torch
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from PIL import Image

from tests.media.recorded import record_sound, record_video

PIXELS = np.random.default_rng(0).integers(60, 200, (24, 32, 3), dtype=np.uint8)
WAVEFORM = (0.3 * np.sin(np.arange(1600) / 9)).astype(np.float32)
SAMPLING_RATE = 16_000


def encode(mode: str = "PNG", **options: Any) -> bytes:
    """Encode the image in one of Pillow's formats."""
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, mode, **options)
    return buffer.getvalue()


def record(mode: str = "WAV", channels: int = 1, **options: Any) -> bytes:
    """Encode the audio in one of libsndfile's formats."""
    buffer = io.BytesIO()
    values = np.stack([WAVEFORM] * channels, axis=1)
    soundfile.write(buffer, values, SAMPLING_RATE, format=mode, **options)
    return buffer.getvalue()


def pdf(*contents: bytes, catalog: bytes = b"", page: bytes = b"", objects: Sequence[bytes] = ()) -> bytes:
    """Write a PDF with a page for each stream of drawing operators; by default one with the image and one with a text.

    Args:
        contents: Operators: `/I Do` draws the image, `/F` is a font.
        catalog: Entries of the catalog.
        page: Entries of every page.
        objects: Objects number 5 and on.
    """
    contents = contents or (b"32 0 0 24 0 0 cm /I Do", b"BT /F 8 Tf 2 8 Td (secret) Tj ET")
    first = 5 + len(objects)
    kids = b" ".join(b"%d 0 R" % (first + 2 * index) for index in range(len(contents)))
    written = [
        b"<</Type/Catalog/Pages 2 0 R%b>>" % catalog,
        b"<</Type/Pages/Kids[%b]/Count %d/MediaBox[0 0 32 24]/Resources<</XObject<</I 3 0 R>>/Font<</F 4 0 R>>>>>>"
        % (kids, len(contents)),
        stream(PIXELS.tobytes(), b"/Subtype/Image/Width 32/Height 24/ColorSpace/DeviceRGB/BitsPerComponent 8"),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        *objects,
    ]
    for index, operators in enumerate(contents):
        written.append(b"<</Type/Page/Parent 2 0 R/Contents %d 0 R%b>>" % (first + 2 * index + 1, page))
        written.append(stream(operators))
    file, places = b"%PDF-1.7\n", []
    for number, each in enumerate(written, start=1):
        places.append(b"%010d 00000 n \n" % len(file))
        file += b"%d 0 obj\n%b\nendobj\n" % (number, each)
    table = b"xref\n0 %d\n0000000000 65535 f \n%b" % (len(written) + 1, b"".join(places))
    return file + table + b"trailer<</Root 1 0 R/Size %d>>\nstartxref\n%d\n%%%%EOF\n" % (len(written) + 1, len(file))


def stream(data: bytes, entries: bytes = b"") -> bytes:
    """Write a stream object of a PDF."""
    return b"<</Length %d%b>>stream\n%b\nendstream" % (len(data), entries, data)


PNG = encode()
JPEG = encode("JPEG")
WAV = record()


def pdf_bomb(kind: str) -> bytes:
    """Return a little PDF that takes days to draw, or all memory."""
    if kind == "tiling":
        tile = stream(
            b"0 0 1 1 re f",
            b"/Type/Pattern/PatternType 1/PaintType 1/TilingType 1/BBox[0 0 1 1]/XStep .001/YStep .001/Resources<<>>",
        )
        resources = b"/MediaBox[0 0 595 842]/Resources<</Pattern<</P 5 0 R>>>>"
        return pdf(b"/Pattern cs /P scn 0 0 595 842 re f", page=resources, objects=[tile])
    forms = [
        stream(
            b"/X Do " * 10 + b"0 0 1 1 re f",
            b"/Type/XObject/Subtype/Form/BBox[0 0 32 24]/Resources<</XObject<</X %d 0 R>>>>" % (number + 1),
        )
        for number in range(5, 15)
    ]
    return pdf(b"/X Do", page=b"/Resources<</XObject<</X 5 0 R>>>>", objects=[*forms, b"null"])


PDF = pdf()
BROKEN_PDF = b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n%%EOF\n"
MP4 = record_video([PIXELS, PIXELS // 2], sound=WAVEFORM)
M4A = record_sound(WAVEFORM, "ipod")
MIDI = b"MThd" + bytes(60)
"""A format that is known, and not decoded."""
PNG64 = base64.b64encode(PNG).decode()
WAV64 = base64.b64encode(WAV).decode()
PDF64 = base64.b64encode(PDF).decode()
MP464 = base64.b64encode(MP4).decode()
M4A64 = base64.b64encode(M4A).decode()
MIDI64 = base64.b64encode(MIDI).decode()
PDF_URI = f"data:application/pdf;base64,{PDF64}"
PNG_URI = f"data:image/png;base64,{PNG64}"
WAV_URI = f"data:audio/wav;base64,{WAV64}"
MP4_URI = f"data:video/mp4;base64,{MP464}"
URL = "https://example.com/cat.png"
PLAIN64 = base64.b64encode(b"The quick brown fox jumps over the lazy dog. " * 20).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Messages, the kinds of the media in them that are perturbed, and the kinds of what cannot be guarded."""

    name: str
    messages: list[BaseMessage]
    media: tuple[str, ...] = ()
    unsupported: tuple[str, ...] = ()


def originals() -> tuple[bytes, ...]:
    """Return every encoding of the image and the audio that a guarded model must not see."""
    files = (PNG, WAV, PDF, MP4, M4A)
    halves = [base64.b64encode(file)[40:-40] for file in files]
    return *files, *halves, PIXELS.tobytes(), WAVEFORM.tobytes()


def flatten(node: object) -> bytes:
    """Return everything that messages hold as one string of bytes to search in."""
    if isinstance(node, BaseMessage):
        return flatten({**node.__dict__, **(node.model_extra or {})})
    if isinstance(node, dict):
        return b"\0".join(flatten(part) for item in node.items() for part in item)
    if isinstance(node, (list, tuple)):
        return b"\0".join(map(flatten, node))
    if isinstance(node, (bytes, bytearray, memoryview)):
        return bytes(node)
    if isinstance(node, Image.Image):
        return node.tobytes()
    if isinstance(node, torch.Tensor):
        return node.numpy().tobytes()
    if isinstance(node, np.ndarray):
        return node.tobytes()
    return str(node).encode()


def arrives_unperturbed(messages: list[BaseMessage]) -> bool:
    """Return whether any encoding of an original stands anywhere in the messages."""
    text = flatten(messages).replace(b"\\n", b"").replace(b"\n", b"")
    return any(original.replace(b"\n", b"") in text for original in originals())


def _block(name: str, block: Any, media: str | None = "image", *, unsupported: str | None = None) -> Case:
    content = [{"type": "text", "text": "What is this?"}, block]
    found = () if media is None or unsupported else (media,)
    return Case(
        name=name,
        messages=[HumanMessage(content=content)],
        media=found,
        unsupported=(unsupported,) if unsupported else (),
    )


def _bad(name: str, block: Any, kind: str) -> Case:
    return _block(name, block, unsupported=kind)


def _good(name: str, block: Any) -> Case:
    return _block(name, block, None)


def _pdf(name: str, block: Any) -> Case:
    """A block of a PDF with two pages."""
    return replace(_block(name, block), media=("image", "image"))


def _video(name: str, block: Any) -> Case:
    """A block of a video with two frames."""
    return replace(_block(name, block), media=("image", "image"))


_LANGCHAIN = [
    _block("v1 base64", {"type": "image", "base64": PNG64, "mime_type": "image/png", "id": "lc_1"}),
    _block("v1 base64 without mime type", {"type": "image", "base64": PNG64}),
    _block("v1 base64 as bytes of text", {"type": "image", "base64": PNG64.encode(), "mime_type": "image/png"}),
    _block("v1 raw bytes", {"type": "image", "base64": PNG, "mime_type": "image/png"}),
    _block("v1 data URI", {"type": "image", "url": PNG_URI}),
    _block("v1 audio", {"type": "audio", "base64": WAV64, "mime_type": "audio/wav"}, "audio"),
    _block("v1 file that is an image", {"type": "file", "base64": PNG64, "mime_type": "application/pdf"}),
    _bad("v1 url", {"type": "image", "url": URL}, "image"),
    _bad("v1 audio url", {"type": "audio", "url": "https://example.com/a.wav"}, "audio"),
    _bad("v1 file id", {"type": "image", "file_id": "file-1"}, "file_id"),
    _video("v1 video", {"type": "video", "base64": MP464, "mime_type": "video/mp4"}),
    _video("v1 video that calls itself an image", {"type": "image", "base64": MP464, "mime_type": "image/png"}),
    _block("v1 audio that calls itself a video", {"type": "video", "base64": M4A64}, "audio"),
    _pdf("v1 pdf", {"type": "file", "base64": PDF64, "mime_type": "application/pdf"}),
    _pdf("v1 pdf that calls itself an image", {"type": "image", "base64": PDF64, "mime_type": "image/png"}),
    _bad("v1 two payloads", {"type": "image", "base64": PNG64, "url": URL}, "unknown"),
    _block("v1 non_standard", {"type": "non_standard", "value": {"type": "image_url", "image_url": PNG_URI}}),
    _block("v0 base64", {"type": "image", "source_type": "base64", "data": PNG64, "mime_type": "image/png"}),
    _block("v0 audio", {"type": "audio", "source_type": "base64", "data": WAV64, "mime_type": "audio/wav"}, "audio"),
    _bad("v0 url", {"type": "image", "source_type": "url", "url": URL, "mime_type": "image/png"}, "image"),
    _bad("v0 id", {"type": "image", "source_type": "id", "id": "file-1"}, "file_id"),
]
_OPENAI = [
    _block("image_url", {"type": "image_url", "image_url": {"url": PNG_URI, "detail": "low"}}),
    _block("image_url as string", {"type": "image_url", "image_url": PNG_URI}),
    _block("image_url of bare base64", {"type": "image_url", "image_url": {"url": PNG64}}),
    _block(
        "image_url with extras", {"type": "image_url", "image_url": {"url": PNG_URI}, "cache_control": {}, "id": "x"}
    ),
    _block("image_url without type", {"image_url": {"url": PNG_URI}}),
    _block("image_url on a text", {"type": "text", "text": "look", "image_url": {"url": PNG_URI}}),
    _bad("image_url remote", {"type": "image_url", "image_url": {"url": URL}}, "image"),
    _bad("image_url remote on a text", {"type": "text", "text": "look", "image_url": URL}, "image"),
    _bad("image_url http", {"type": "image_url", "image_url": {"url": "http://10.0.0.1/cat.png"}}, "image"),
    _bad("image_url file", {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}, "image"),
    _block("data URI in capitals", {"type": "image_url", "image_url": {"url": f" DATA:IMAGE/PNG;BASE64,{PNG64}"}}),
    _block("data URI with charset", {"image_url": {"url": f"data:image/png;charset=utf-8;base64,{PNG64}"}}),
    _block("data URI without type", {"image_url": {"url": f"data:;base64,{PNG64}"}}),
    _block("data URI that lies", {"image_url": {"url": f"data:text/plain;base64,{PNG64}"}}),
    _block(
        "data URI in percents",
        {"image_url": {"url": "data:image/png," + "".join(f"%{byte:02x}" for byte in PNG)}},
    ),
    _block("input_audio", {"type": "input_audio", "input_audio": {"data": WAV64, "format": "wav"}}, "audio"),
    _block("input_audio m4a", {"type": "input_audio", "input_audio": {"data": M4A64, "format": "m4a"}}, "audio"),
    _block("file_data image", {"type": "file", "file": {"filename": "a.png", "file_data": PNG_URI}}),
    _pdf("file_data pdf", {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PDF64}"}}),
    _bad("file.file_id", {"type": "file", "file": {"file_id": "file-1"}}, "file_id"),
    _block("input_image", {"type": "input_image", "image_url": PNG_URI, "detail": "auto", "file_id": None}),
    _bad("input_image remote", {"type": "input_image", "image_url": URL}, "image"),
    _bad("input_image file id", {"type": "input_image", "file_id": "file-1"}, "file_id"),
    _block("input_file image", {"type": "input_file", "filename": "a.png", "file_data": PNG_URI}),
    _bad("input_file url", {"type": "input_file", "file_url": "https://example.com/a.pdf"}, "file"),
    _block("image_generation_call", {"type": "image_generation_call", "result": PNG64, "status": "completed"}),
    _bad("image_generation_call by id", {"type": "image_generation_call", "id": "ig_1", "result": PNG64}, "file_id"),
    _block("computer_screenshot", {"type": "computer_screenshot", "image_url": PNG_URI}),
    _block(
        "computer_call_output",
        {
            "type": "computer_call_output",
            "call_id": "call_1",
            "output": {"type": "computer_screenshot", "image_url": PNG_URI},
        },
    ),
    _block(
        "function_call_output",
        {"type": "function_call_output", "call_id": "1", "output": [{"type": "input_image", "image_url": PNG_URI}]},
    ),
    _bad("item_reference", {"type": "item_reference", "id": "msg_1"}, "unknown"),
    _video("video_url", {"type": "video_url", "video_url": {"url": MP4_URI}}),
    _bad("video_url remote", {"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}}, "video"),
    _video("input_video", {"type": "input_video", "input_video": {"data": MP464, "format": "mp4"}}),
    _block("audio_url", {"type": "audio_url", "audio_url": {"url": WAV_URI}}, "audio"),
    _bad("image_embeds", {"type": "image_embeds", "image_embeds": PNG64}, "embedding"),
]
_ANTHROPIC = [
    _block(
        "anthropic base64",
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": PNG64},
            "cache_control": {"type": "ephemeral"},
        },
    ),
    _bad("anthropic url", {"type": "image", "source": {"type": "url", "url": URL}}, "image"),
    _bad("anthropic file", {"type": "image", "source": {"type": "file", "file_id": "f"}}, "file_id"),
    _pdf("document pdf", {"type": "document", "source": {"type": "base64", "data": PDF64}, "title": "t"}),
    _good("document text", {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "hi"}}),
    _block("document text that lies", {"type": "document", "source": {"type": "text", "data": PNG64}}),
    _block(
        "document of blocks",
        {
            "type": "document",
            "source": {
                "type": "content",
                "content": [
                    {"type": "text", "text": "x"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG64}},
                ],
            },
        },
    ),
    _video(
        "tool_result with a video",
        {
            "type": "tool_result",
            "tool_use_id": "t",
            "content": [{"type": "video", "base64": MP464, "mime_type": "video/mp4"}],
        },
    ),
    _block(
        "tool_result",
        {
            "type": "tool_result",
            "tool_use_id": "t",
            "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG64}}],
        },
    ),
    _bad(
        "tool_result unknown", {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "hologram"}]}, "unknown"
    ),
    _bad("container_upload", {"type": "container_upload", "file_id": "f"}, "file_id"),
]
_GOOGLE = [
    _block("google media", {"type": "media", "mime_type": "image/png", "data": PNG}),
    _block("google media base64", {"type": "media", "mime_type": "image/png", "data": PNG64}),
    _bad("google file_uri", {"type": "media", "mime_type": "image/png", "file_uri": "gs://bucket/cat.png"}, "file"),
    _video("google media video", {"type": "media", "mime_type": "video/mp4", "data": MP4}),
    _video("inline_data video", {"inline_data": {"mime_type": "video/mp4", "data": MP464}}),
    _block("inline_data", {"inline_data": {"mime_type": "image/png", "data": PNG64}}),
    _block("inlineData", {"inlineData": {"mimeType": "image/png", "data": PNG64}}),
    _bad("file_data uri", {"file_data": {"mime_type": "video/mp4", "file_uri": "https://youtu.be/x"}}, "file"),
    _bad("fileData uri", {"fileData": {"mimeType": "image/png", "fileUri": URL}}, "file"),
    _block(
        "functionResponse",
        {"functionResponse": {"name": "f", "response": {}, "parts": [{"inlineData": {"data": PNG64}}]}},
    ),
]
_BEDROCK = [
    _block("bedrock image", {"image": {"format": "png", "source": {"bytes": PNG}}}),
    _block("bedrock image, bytearray", {"image": {"format": "png", "source": {"bytes": bytearray(PNG)}}}),
    _block("bedrock image, memoryview", {"image": {"format": "png", "source": {"bytes": memoryview(PNG)}}}),
    _block("bedrock audio", {"audio": {"format": "wav", "source": {"bytes": WAV}}}, "audio"),
    _video("bedrock video", {"video": {"format": "mp4", "source": {"bytes": MP4}}}),
    _bad("bedrock s3", {"image": {"format": "png", "source": {"s3Location": {"uri": "s3://b/k"}}}}, "image"),
    _pdf("bedrock pdf", {"document": {"format": "pdf", "name": "d", "source": {"bytes": PDF}}}),
    _good("bedrock csv", {"document": {"format": "csv", "name": "d", "source": {"bytes": b"a,b\n1,2\n"}}}),
    _block(
        "bedrock toolResult",
        {"toolResult": {"toolUseId": "t", "content": [{"image": {"format": "png", "source": {"bytes": PNG}}}]}},
    ),
    _block("bedrock guardContent", {"guardContent": {"image": {"format": "png", "source": {"bytes": PNG}}}}),
]
_OTHERS = [
    _block("mcp image", {"type": "image", "data": PNG64, "mimeType": "image/png"}),
    _block("mcp audio", {"type": "audio", "data": WAV64, "mimeType": "audio/wav"}, "audio"),
    _block("mcp blob", {"type": "resource", "resource": {"uri": "file:///a", "mimeType": "image/png", "blob": PNG64}}),
    _good("mcp text", {"type": "resource", "resource": {"uri": "file:///a.txt", "text": "hello"}}),
    _bad("mcp link", {"type": "resource_link", "uri": "https://example.com/a", "name": "a"}, "file"),
    _block("hf pillow", {"type": "image", "image": Image.fromarray(PIXELS)}),
    _block("hf array", {"type": "image", "image": PIXELS}),
    _block("hf tensor", {"type": "image", "image": torch.from_numpy(PIXELS).permute(2, 0, 1) / 255}),
    _block("hf data URI", {"type": "image", "image": PNG_URI}),
    _block("hf base64", {"type": "image", "image": PNG64}),
    _block("hf waveform", {"type": "audio", "audio": WAVEFORM, "sampling_rate": SAMPLING_RATE}, "audio"),
    _bad("hf waveform without rate", {"type": "audio", "audio": WAVEFORM}, "audio"),
    _bad("hf path", {"type": "image", "path": "/etc/passwd"}, "image"),
    _bad("hf image path", {"type": "image", "image": "cat.png"}, "image"),
    _bad("hf url", {"type": "image", "url": URL}, "image"),
    _bad("hf video frames", {"type": "video", "video": [PIXELS, PIXELS]}, "video"),
    _bad("hf placeholder", {"type": "image"}, "unknown"),
]
_ATTACKS = [
    _bad("unknown type", {"type": "hologram", "data": PNG64}, "unknown"),
    _bad("unknown type with image_url", {"type": "foo", "image_url": {"url": PNG_URI}}, "unknown"),
    _bad("type in capitals", {"type": "IMAGE_URL", "image_url": {"url": PNG_URI}}, "unknown"),
    _bad("type that is a list", {"type": ["text"], "text": "x"}, "unknown"),
    _bad("no known key", {"picture": PNG64}, "unknown"),
    _block("png under an odd key of a text", {"type": "text", "text": "x", "thumbnail": PNG64}),
    _block("png deep in a text", {"type": "text", "text": "x", "a": [{"b": {"c": ["-", PNG]}}]}),
    _block("png in a reasoning", {"type": "reasoning", "reasoning": PNG_URI}),
    _block("base64 wrapped in lines", {"type": "text", "text": base64.encodebytes(PNG).decode()}),
    _block("url-safe base64", {"type": "image", "base64": base64.urlsafe_b64encode(PNG).decode().rstrip("=")}),
    _bad("png as a key", {"type": "text", "text": "x", "extra": {PNG_URI: 1}}, "unknown"),
    _bad("svg", {"type": "image_url", "image_url": "data:image/svg+xml,<svg xmlns='x'></svg>"}, "image"),
    _block("png in tool_use", {"type": "tool_use", "id": "t", "name": "f", "input": {"picture": PNG64}}),
    _bad("bytes of an unknown format", {"type": "text", "text": "x", "blob": b"\x01\x02\x03"}, "unknown"),
    _bad(
        "text file with an image inside",
        {"type": "file", "base64": base64.b64encode(PNG_URI.encode()).decode()},
        "file",
    ),
]
_TEXTS = [
    _good("text with a URL", {"type": "text", "text": f"see {URL} and data:text/html,hello"}),
    _good("plain long base64", {"type": "text", "text": PLAIN64}),
    _good("a little data URI", {"type": "text", "text": "data:image/png;base64,iVBORw0KGgo..."}),
    _good(
        "css", {"type": "text", "text": "url(\"data:image/svg+xml;utf8,<svg xmlns='http://www.w3.org/2000/svg'/>\")"}
    ),
    _good("tool_use", {"type": "tool_use", "id": "t", "name": "post", "input": {"image_url": URL, "type": "image"}}),
    _good("thinking", {"type": "thinking", "thinking": "hm", "signature": "EqQBCgIYAhIM" * 20}),
    _good("redacted_thinking", {"type": "redacted_thinking", "data": PLAIN64}),
    _good("refusal", {"type": "refusal", "refusal": "no"}),
    _good("cachePoint", {"cachePoint": {"type": "default"}}),
    _good("bedrock text", {"text": "hello"}),
    _good("bedrock reasoning", {"reasoningContent": {"redactedContent": b"\x00\x01"}}),
    _good("plain text block", {"type": "text-plain", "text": "hello", "mime_type": "text/plain"}),
    _good("text file", {"type": "file", "base64": base64.b64encode(b"a,b\n").decode(), "mime_type": "text/csv"}),
    _good("v0 text file", {"type": "file", "source_type": "text", "text": "hello"}),
    _good(
        "search_result",
        {"type": "search_result", "source": URL, "title": "t", "content": [{"type": "text", "text": "x"}]},
    ),
    _good("tool_result of text", {"type": "tool_result", "tool_use_id": "t", "content": "done"}),
    _good(
        "web search",
        {"type": "web_search_tool_result", "content": [{"type": "web_search_result", "url": URL, "title": "t"}]},
    ),
    _good("server_tool_result", {"type": "server_tool_result", "output": [{"type": "row", "image": "busybox:latest"}]}),
    _good("function_call", {"type": "function_call", "name": "f", "arguments": json.dumps({"url": URL})}),
    _good("plain string in a list", "hello"),
]


def _messages(name: str, *messages: BaseMessage, media: tuple[str, ...] = (), bad: tuple[str, ...] = ()) -> Case:
    return Case(name=name, messages=list(messages), media=media, unsupported=bad)


_IMAGE: Any = {"type": "image", "base64": PNG64, "mime_type": "image/png"}
_WHOLE_MESSAGES = [
    _messages("only text", SystemMessage("Be brief."), HumanMessage("Hello"), AIMessage("Hi"), HumanMessage("1 + 1?")),
    _messages("data URI in a text", HumanMessage(f"What is ![this]({PNG_URI}) about?"), media=("image",)),
    _messages("two data URIs in a text", HumanMessage(f"{PNG_URI}\nversus {WAV_URI}."), media=("image", "audio")),
    _messages("bare base64 in a text", HumanMessage(f"Screenshot: {PNG64}"), media=("image",)),
    _messages("text in a list", HumanMessage(["look", f"<img src='{PNG_URI}'>"]), media=("image",)),
    _messages("video in a text", HumanMessage(f"What is ![this]({MP4_URI})?"), media=("image", "image")),
    _messages("system", SystemMessage([_IMAGE]), HumanMessage("Hello"), media=("image",)),
    _messages("history", HumanMessage([_IMAGE]), AIMessage("A cat."), HumanMessage([_IMAGE]), media=("image", "image")),
    _messages("answer", AIMessage([{"type": "text", "text": "Here:"}, _IMAGE]), media=("image",)),
    _messages("tool", ToolMessage([_IMAGE], tool_call_id="1"), media=("image",)),
    _messages("tool text", ToolMessage(json.dumps({"screenshot": PNG64}), tool_call_id="1"), media=("image",)),
    _messages(
        "computer call",
        ToolMessage(PNG_URI, tool_call_id="1", additional_kwargs={"type": "computer_call_output"}),
        media=("image",),
    ),
    _messages(
        "computer call by URL",
        ToolMessage(URL, tool_call_id="1", additional_kwargs={"type": "computer_call_output"}),
        bad=("image",),
    ),
    _messages(
        "arguments of tools",
        AIMessage("", tool_calls=[{"name": "f", "args": {"a": [PNG_URI], "image_url": URL}, "id": "1"}]),
        media=("image",),
    ),
    _messages(
        "additional_kwargs",
        HumanMessage("x", additional_kwargs={"images": [{"type": "image_url", "image_url": {"url": PNG_URI}}]}),
        media=("image",),
    ),
    _messages(
        "additional_kwargs by URL",
        HumanMessage("x", additional_kwargs={"images": [{"type": "image_url", "image_url": {"url": URL}}]}),
        bad=("image",),
    ),
    _messages(
        "search results", AIMessage("x", additional_kwargs={"images": [{"image_url": URL, "image": {"url": URL}}]})
    ),
    _messages(
        "generated image",
        AIMessage("", additional_kwargs={"tool_outputs": [{"type": "image_generation_call", "result": PNG64}]}),
        media=("image",),
    ),
    _messages(
        "spoken answer",
        AIMessage("", additional_kwargs={"audio": {"id": "audio_1", "data": WAV64, "transcript": "Hi"}}),
        bad=("file_id",),
    ),
    _messages("custom field", HumanMessage("x", images=[PNG64]), media=("image",)),
]

CASES = _LANGCHAIN + _OPENAI + _ANTHROPIC + _GOOGLE + _BEDROCK + _OTHERS + _ATTACKS + _TEXTS + _WHOLE_MESSAGES
