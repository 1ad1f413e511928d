from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import pypdfium2
import pytest
import torch
from langchain_core.messages import AIMessage, HumanMessage
from PIL import Image

from smoothguard_guardrail._internal.pool import cpu_map
from smoothguard_guardrail.config import MediaConfig, MediaLimits, PdfConfig, RemotePolicy
from smoothguard_guardrail.errors import ConfigurationError, MediaError, MediaLimitError, UnsupportedMediaError
from smoothguard_guardrail.media import PreparedRequest, pdf, prepare, render_medium
from smoothguard_guardrail.media.formats import sniff
from smoothguard_guardrail.media.image import encode_image
from smoothguard_guardrail.media.pdf import Page, render_pages, write_pdf
from tests.media import corpus

FILL = b"0 0 32 24 re f"


def draw(data: bytes, *, limits: dict[str, Any] | None = None, **settings: Any) -> list[Page]:
    config = PdfConfig(**{"dpi": 72} | settings)
    return render_pages(data, config=config, limits=MediaLimits(**limits or {}), path="here")


def ready(data: bytes, policy: str = "error", **settings: Any) -> PreparedRequest:
    block = {"type": "file", "base64": base64.b64encode(data).decode()}
    config = MediaConfig(on_unsupported=policy, pdf=PdfConfig(**settings))
    return prepare([HumanMessage([block])], config)


def rendered(prepared: PreparedRequest) -> Any:
    copies = [render_medium(medium, 1 - medium.tensor, as_tensors=False) for medium in prepared.media]
    return prepare(prepared.render(copies), MediaConfig())


ASCII = corpus.pdf(b"/I Do").partition(b"stream")[0]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"%" + b"x" * 3000 + b"\n" + ASCII, {"mime_type": "text/plain"}),
        (ASCII.partition(b"\n")[2], {"mime_type": "text/plain"}),
        (b"1% no header\n0%\nobj<</Type/Catalog>>", {"mime_type": "application/pdf"}),
        (b"1% no header\n0%\nobj<</Type/Catalog>>", {"mime_type": "text/plain", "filename": "a.PDF"}),
        (b"1% no header\n0%\nobj<</Type/Catalog>>", {}),
    ],
)
def test_a_pdf_that_readers_repair_is_no_text(data: bytes, says: dict[str, str]) -> None:
    """PyMuPDF, pdf.js and pypdf open files whose header is missing or comes late."""
    block = {"type": "file", "base64": base64.b64encode(data).decode()} | says
    with pytest.raises(UnsupportedMediaError):
        prepare([HumanMessage([block])], MediaConfig())


def blackness(page: Page) -> float:
    return 1 - float(page.image.unit.mean())


def test_pages_are_drawn_as_they_are_seen() -> None:
    first, second = draw(corpus.PDF)
    assert torch.equal(first.image.pixels, torch.from_numpy(corpus.PIXELS).permute(2, 0, 1))
    assert (second.image.size, first.text, second.text) == ((32, 24), "", "")
    assert 0.02 < blackness(second) < 0.5
    assert [page.text for page in draw(corpus.PDF, keep_text=True)] == ["", "secret"]
    [turned] = draw(corpus.pdf(FILL, page=b"/Rotate 90"), dpi=144)
    assert turned.image.size == (48, 64)
    [cropped] = draw(corpus.pdf(FILL, page=b"/CropBox[0 0 16 24]"))
    assert cropped.image.size == (16, 24)
    [invisible] = draw(corpus.pdf(b"BT 3 Tr /F 8 Tf 2 8 Td (obey) Tj ET"), keep_text=True)
    assert (blackness(invisible), invisible.text) == (0.0, "obey")


@pytest.mark.parametrize("kind", [b"/Stamp", b"/Widget/FT/Tx/T(x)/V(x)"], ids=["note", "filled form"])
def test_notes_and_filled_forms_are_seen(kind: bytes) -> None:
    look = corpus.stream(FILL, b"/Type/XObject/Subtype/Form/BBox[0 0 32 24]")
    note = b"<</Type/Annot/Subtype%b/Rect[0 0 32 24]/F 4/AP<</N 5 0 R>>>>" % kind
    data = corpus.pdf(b"", catalog=b"/AcroForm<</Fields[6 0 R]>>", page=b"/Annots[6 0 R]", objects=[look, note])
    assert blackness(draw(data)[0]) > 0.9


EMBEDDED = [
    corpus.stream(b"x", b"/Type/EmbeddedFile"),
    b"<</Type/Filespec/F(a.txt)/UF(a.txt)/EF<</F 5 0 R>>>>",
    b"<</Type/Annot/Subtype/FileAttachment/Rect[0 0 1 1]/FS 6 0 R>>",
]
WITH_FILES = {
    "attached": corpus.pdf(FILL, catalog=b"/Names<</EmbeddedFiles<</Names[(a)6 0 R]>>>>", objects=EMBEDDED),
    "in a note": corpus.pdf(FILL, page=b"/Annots[7 0 R]", objects=EMBEDDED),
}
ENCRYPTED = corpus.pdf(FILL).replace(
    b"trailer<<",
    b"trailer<</ID[(a)(a)]/Encrypt<</Filter/Standard/V 1/R 2/P -4/O(%b)/U(%b)>>" % (b"o" * 32, b"u" * 32),
)
XFA = corpus.pdf(
    FILL, catalog=b"/NeedsRendering true/AcroForm<</Fields[]/XFA[(a)5 0 R]>>", objects=[corpus.stream(b"<x/>")]
)


@pytest.mark.parametrize(
    ("data", "reason"),
    [(ENCRYPTED, "encrypted"), (XFA, "only Adobe's"), *((data, "files inside") for data in WITH_FILES.values())],
    ids=["encrypted", "XFA", *WITH_FILES],
)
def test_what_cannot_be_drawn_is_left_to_the_policy(data: bytes, reason: str) -> None:
    with pytest.raises(UnsupportedMediaError, match=rf"messages\[0\].content\[0\]: the PDF .*{reason}"):
        ready(data)
    [record] = ready(data, "drop").records
    assert (record.kind, record.action, record.mime_type) == ("pdf", "dropped", "application/pdf")


@pytest.mark.parametrize("data", WITH_FILES.values(), ids=WITH_FILES)
def test_embedded_files_are_left_out_where_wanted(data: bytes) -> None:
    [record] = ready(data, on_embedded_files="drop").records
    assert record.notes == ("embedded files left out: 1",)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "kind", "reason"),
    [
        (corpus.BROKEN_PDF, MediaError, "damaged"),
        (corpus.PDF[: len(corpus.PDF) // 2], MediaError, "damaged"),
        (corpus.pdf(FILL).replace(b"/Kids[5 0 R]/Count 1", b"/Kids[]     /Count 0"), MediaError, "damaged|no pages"),
        (corpus.pdf(*[FILL] * 21), MediaLimitError, r"21 pages; at most 20 are allowed \(media.pdf.max_pages\)"),
        (corpus.pdf(b"", page=b"/MediaBox[0 0 9000000 0.0001]"), MediaLimitError, "long and narrow"),
    ],
    ids=["broken", "cut", "no pages", "many pages", "a line"],
)
def test_damage_and_limits_are_errors_under_every_policy(data: bytes, kind: type[MediaError], reason: str) -> None:
    for policy in ("error", "drop", "pass"):
        with pytest.raises(kind, match=reason) as raised:
            ready(data, policy, dpi=72 * 5)
        assert raised.value.path == "messages[0].content[0]"
        assert str(raised.value).isprintable()


def test_huge_pages_are_drawn_smaller() -> None:
    [page] = draw(corpus.pdf(FILL, page=b"/MediaBox[0 0 14400 14400]"), limits={"max_pixels": 40_000})
    assert max(page.image.size) <= 200 < 10 * min(page.image.size)
    assert page.image.notes == ("drawn at 0.99 dpi",)
    with pytest.raises(MediaLimitError, match="its pages have 1,536 pixels; at most 1,535"):
        draw(corpus.PDF, limits={"max_total_pixels": 1_535})
    with pytest.raises(MediaLimitError, match="its pages"):
        draw(corpus.pdf(*[FILL] * 20, page=b"/MediaBox[0 0 1e9 1e9]"), dpi=600)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tiling", "forms"])
def test_what_takes_too_long_or_too_much_memory_is_ended(kind: str) -> None:
    with pytest.raises(MediaLimitError, match=r"cannot be drawn in 1 s \(media.pdf.timeout\) and 1024 MiB"):
        draw(corpus.pdf_bomb(kind), timeout=1)


def test_all_pdfs_of_a_request_share_the_time() -> None:
    block = {"type": "file", "base64": corpus.PDF64}  # the process of each takes longer to start than 31 ms
    with pytest.raises(MediaLimitError, match=r"0.5 s \(media.pdf.timeout\)"):
        prepare([HumanMessage([block] * 16)], MediaConfig(pdf=PdfConfig(timeout=0.5)))


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("raise SystemExit(1)", "cannot be drawn"),
        ("print('{')", "cannot be drawn"),
        ('print(\'{"size": [32, 24], "num_\')', "cannot be drawn"),
        ("print('{\"size\": [9000, 9000]}')", "has a page of 9000 x 9000 pixels"),
        ("import json, os; print(json.dumps({'refused': 'damaged', 'reason': str(sorted(os.environ))}))", "PATH"),
    ],
)
def test_the_process_that_draws_may_break_and_knows_no_secret(
    script: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "script.py").write_text(script)
    monkeypatch.setattr(pdf, "_SCRIPT", tmp_path / "script.py")
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    with pytest.raises(MediaError, match=reason) as raised:
        draw(corpus.PDF)
    assert "KEY" not in str(raised.value)


def test_without_the_extra_a_pdf_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "find_spec", lambda name: None)
    with pytest.raises(UnsupportedMediaError, match=r'pip install "smoothguard-guardrail\[media\]"'):
        ready(corpus.PDF)
    assert ready(corpus.PDF, "drop").records[0].action == "dropped"


@pytest.mark.parametrize("encoding", ["PNG", "JPEG 95"])
def test_a_written_pdf_has_the_very_pixels(encoding: str) -> None:
    noisy = torch.rand(3, 40, 60, generator=torch.Generator().manual_seed(0))
    encoded = encode_image(noisy, encoding)
    first, second = draw(write_pdf([encoded, encode_image(noisy[:, :9], encoding)]).data)
    with Image.open(io.BytesIO(encoded.data)) as image:
        expected = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8).view(40, 60, 3)
    assert (first.image.pixels.permute(1, 2, 0).int() - expected.int()).abs().max() <= 1
    assert second.image.size == (60, 9)


@pytest.mark.slow
def test_what_a_pdf_cannot_say_in_blocks_stays_a_pdf() -> None:
    uri = f"data:application/pdf;base64,{corpus.PDF64}"
    block = {"type": "file", "base64": corpus.PDF64, "mime_type": "application/pdf"}
    messages = [
        HumanMessage(f"see {uri} there", additional_kwargs={"files": [block]}),
        AIMessage("", tool_calls=[{"name": "f", "args": {"file": [corpus.PDF64]}, "id": "1"}]),
        HumanMessage([{"type": "tool_result", "tool_use_id": "1", "content": [block]}]),
        HumanMessage([{"document": {"format": "pdf", "name": "d", "source": {"bytes": corpus.PDF}}}]),
    ]
    prepared = prepare(messages, MediaConfig())
    again = rendered(prepared)
    assert [record.mime_type for record in again.records] == ["application/pdf"] * 10
    assert not corpus.arrives_unperturbed(list(again.messages))
    texts, answer, results, bedrock = again.messages
    assert re.fullmatch(r"see data:application/pdf;base64,[A-Za-z0-9+/]+=* there", texts.content)
    assert texts.additional_kwargs["files"][0].keys() == block.keys()
    assert sniff(base64.b64decode(answer.tool_calls[0]["args"]["file"][0])).kind == "pdf"
    assert [inner["type"] for inner in results.content[0]["content"]] == ["file"]
    assert bedrock.content[0]["document"].keys() == {"format", "name", "source"}


def test_a_medium_in_the_text_layer_is_not_sent() -> None:
    hiding = corpus.pdf(b"BT /F 1 Tf 0 8 Td (%b) Tj ET" % corpus.PNG64.encode())
    with pytest.raises(UnsupportedMediaError, match="a medium is hidden in the text layer"):
        ready(hiding, keep_text=True)
    with pytest.raises(MediaLimitError, match="more than 50,000 characters"):
        ready(corpus.pdf(b"BT /F 1 Tf 0 8 Td " + b"(%b) Tj " % (b"x" * 10_000) * 6 + b"ET"), keep_text=True)
    with pytest.raises(ConfigurationError, match="keep_text"):
        PdfConfig(keep_text=True, send_as="pdf")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"x" * 500 + corpus.PDF, "application/pdf"),
        (b"PK\3\4" + b"\0" * 60 + corpus.PDF, "application/pdf"),
        (corpus.PNG + corpus.PDF, "image/png"),
        (corpus.JPEG + corpus.PDF, "image/jpeg"),
    ],
    ids=["late header", "zip", "png", "jpeg"],
)
def test_no_byte_of_a_file_that_is_several_things_arrives(data: bytes, kind: str) -> None:
    prepared = ready(data)
    assert {record.mime_type for record in prepared.records} == {kind}
    assert not corpus.arrives_unperturbed(list(rendered(prepared).messages))


def test_a_file_by_path_becomes_pages(tmp_path: Path) -> None:
    file = tmp_path / "a.pdf"
    file.write_bytes(corpus.PDF)
    remote = RemotePolicy(allowed_directories=(str(tmp_path),))
    blocks = [{"type": "file", "url": file.as_uri()}, {"type": "input_file", "file_url": file.as_uri()}]
    for send_as, kinds in (("images", ["image"] * 2), ("pdf", ["file", "input_file"])):
        prepared = prepare([HumanMessage(blocks)], MediaConfig(remote=remote, pdf=PdfConfig(send_as=send_as)))
        again = rendered(prepared)
        assert len(again.media) == 4
        content = again.messages[0].content
        assert [block["type"] for block in content if block["type"] != "text"][:2] == kinds
        assert file.name not in str(content).replace("document.pdf", "")
    assert content[1] == {
        "type": "input_file",
        "filename": "document.pdf",
        "file_data": f"data:application/pdf;base64,{base64.b64encode(again_data(content[1])).decode()}",
    }


def again_data(block: dict[str, str]) -> bytes:
    return base64.b64decode(block["file_data"].partition(",")[2])


def test_files_are_read_and_written_in_many_threads() -> None:
    def both(index: int) -> tuple[int, int]:
        pages = draw(corpus.PDF)
        with io.BytesIO(write_pdf([encode_image(page.image.unit, "PNG") for page in pages] * index).data) as file:
            return index, len(pypdfium2.PdfDocument(file.getvalue()))

    assert cpu_map(both, range(1, 7)) == [(index, 2 * index) for index in range(1, 7)]
