"""HEIC and AVIF, as phones and browsers write them."""

import io

import numpy as np
import pillow_heif
import pytest
from PIL import ExifTags, Image

from smoothguard_guardrail.config import MediaLimits
from smoothguard_guardrail.errors import MediaLimitError, UnsupportedMediaError
from smoothguard_guardrail.media import image
from smoothguard_guardrail.media.formats import sniff
from smoothguard_guardrail.media.image import DecodedImage, decode_image
from tests.media.recorded import photo

PATH = "messages[0].content[1]"


def decode(data: bytes, **limits: int) -> DecodedImage:
    sniffed = sniff(data)
    assert sniffed is not None
    return decode_image(data, mime_type=sniffed.mime_type, limits=MediaLimits(**limits), path=PATH)


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_alpha_and_limits(kind: str) -> None:
    half = np.zeros((64, 96, 4), np.uint8)
    half[:, :48] = (250, 0, 0, 255)  # the rest is transparent
    data = photo(half, kind)
    decoded = decode(data)
    assert decoded.size == (96, 64)
    assert decoded.notes == ("alpha composited on white",)
    assert decoded.unit[:, 20, 20].tolist() == pytest.approx([0.98, 0, 0], abs=0.05)
    assert decoded.unit[:, 20, 80].tolist() == pytest.approx([1, 1, 1], abs=0.05)
    with pytest.raises(MediaLimitError, match="96 x 64 pixels"):
        decode(data, max_pixels=96 * 64 - 1)
    with pytest.raises(MediaLimitError, match="decoding takes about 10 MiB, at most 9 are"):
        decode(photo(np.zeros((600, 1200, 3), np.uint8), kind), max_decoding_mib=9)


def test_a_heic_is_turned_once_and_its_main_image_counts() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    corner = np.zeros((32, 64, 3), np.uint8)
    corner[:16, :32] = 255
    turned = decode(photo(corner, exif=exif.tobytes()))
    assert turned.size == (32, 64)
    assert turned.unit[:, 10, 26].min() > 0.9  # the top left, turned clockwise
    assert float(turned.unit.mean()) == pytest.approx(0.25, abs=0.03)
    buffer = io.BytesIO()
    two = pillow_heif.from_pillow(Image.fromarray(corner))
    two.add_from_pillow(Image.new("RGB", (64, 32)))
    two.save(buffer, primary_index=0)
    first_of_two = decode(buffer.getvalue())
    assert first_of_two.notes == ("main image of 2",)
    assert float(first_of_two.unit.mean()) == pytest.approx(0.25, abs=0.03)


def test_other_users_of_pillow_are_left_alone() -> None:
    before = dict(Image.OPEN)
    decode(photo(np.zeros((32, 64, 3), np.uint8)))
    assert before == Image.OPEN


def test_a_pillow_without_avif_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    data = photo(np.zeros((32, 64, 3), np.uint8), "AVIF")
    monkeypatch.setattr(image.features, "check", lambda feature: feature != "avif")
    with pytest.raises(UnsupportedMediaError, match=r"pip install 'pillow>=11\.3'"):
        decode(data)


@pytest.mark.parametrize("brand", [b"msf1", b"hevc"])
def test_sequences_are_not_taken_for_photos(brand: bytes) -> None:
    sniffed = sniff(b"\0\0\0\x18ftyp" + brand + bytes(60))
    assert sniffed is not None
    assert sniffed.mime_type == "image/heic-sequence"
