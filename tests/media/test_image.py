import io
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, PngImagePlugin
from torch.nn import functional

from smoothguard_guardrail.config import MediaLimits
from smoothguard_guardrail.errors import MediaError, MediaLimitError, UnsupportedMediaError
from smoothguard_guardrail.media.formats import IMAGE_FORMATS, sniff
from smoothguard_guardrail.media.image import (
    choose_encoding,
    decode_image,
    decode_object,
    decode_pillow,
    encode_image,
    encode_png,
    resize,
)
from tests.media import corpus

PATH = "messages[0].content[1]"


def decode(data: bytes, max_pixels: int = 10_000) -> tuple[torch.Tensor, tuple[str, ...]]:
    sniffed = sniff(data)
    assert sniffed is not None
    found = decode_image(data, mime_type=sniffed.mime_type, limits=MediaLimits(max_pixels=max_pixels), path=PATH)
    return found.unit, found.notes


def save(image: Image.Image, mode: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, mode, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("mode", "options", "exact"),
    [
        ("PNG", {}, True),
        ("BMP", {}, True),
        ("TIFF", {}, True),
        ("WEBP", {"lossless": True}, True),
        ("JPEG", {"quality": 95}, False),
        ("GIF", {}, False),
    ],
)
def test_formats(mode: str, options: dict, exact: bool) -> None:
    pixels, notes = decode(corpus.encode(mode, **options))
    expected = torch.from_numpy(corpus.PIXELS).permute(2, 0, 1) / 255
    assert pixels.dtype == torch.float32
    assert pixels.shape == (3, 24, 32)
    assert pixels.is_contiguous()
    assert (pixels - expected).abs().max() < (1e-6 if exact else 0.5)
    assert notes == ()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "YCbCr"])
def test_modes_come_out_as_three_channels(mode: str) -> None:
    grey = Image.new("L", (6, 4), 128)
    image = Image.fromarray(np.full((4, 6), 32_896, np.uint16)) if mode == "I;16" else grey.convert(mode)
    if mode == "I":
        image = Image.fromarray(np.full((4, 6), 32_896, np.int32))
    container = "TIFF" if mode in ("CMYK", "F", "YCbCr", "I", "I;16", "L") else "PNG"
    # Pillow before 13 does not read back the YCbCr that it writes without compression.
    pixels, _ = decode(save(image, container, **({"compression": "tiff_lzw"} if mode == "YCbCr" else {})))
    assert pixels.shape == (3, 4, 6)
    assert pixels.mean() == pytest.approx(1.0 if mode == "1" and pixels.mean() > 0.6 else 0.5, abs=0.1)


def test_alpha_is_composited_on_white() -> None:
    pixels, notes = decode(save(Image.new("RGBA", (4, 4), (0, 0, 0, 0))))
    assert torch.equal(pixels, torch.ones(3, 4, 4))
    assert notes == ("alpha composited on white",)
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    pixels, notes = decode(save(palette, transparency=0))
    assert torch.equal(pixels, torch.ones(3, 4, 4))
    assert notes


def test_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels, notes = decode(corpus.encode("JPEG", exif=exif))
    assert pixels.shape == (3, 32, 24)
    assert notes == ("EXIF orientation applied",)


@pytest.mark.parametrize("mode", ["GIF", "WEBP", "TIFF", "PNG"])
def test_first_frame(mode: str) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "green", "blue")]
    data = save(frames[0], mode, save_all=True, append_images=frames[1:])
    pixels, notes = decode(data)
    assert pixels[0].mean() > 0.9
    assert notes == ("first frame of 3" if mode in ("WEBP", "PNG") else "first frame of several",)


def test_pixels_are_counted_before_decoding() -> None:
    for side in (101, 10_000, 20_000, 2**31 - 1):  # Pillow warns above the second, and refuses the last two
        header = b"IHDR" + struct.pack(">II", side, side) + corpus.PNG[24:29]
        bomb = corpus.PNG[:12] + header + struct.pack(">I", zlib.crc32(header)) + corpus.PNG[33:]
        with pytest.raises(MediaLimitError, match=r"messages\[0\].content\[1\]"):
            decode(bomb)
    with pytest.raises(MediaLimitError):
        decode(corpus.PNG, max_pixels=32 * 24 - 1)


def test_a_jpeg_of_many_scans_is_refused() -> None:
    data = corpus.encode("JPEG", progressive=True)
    at = data.rindex(b"\xff\xda")
    with pytest.raises(MediaLimitError, match="more than 200 scans"):
        decode(data[:at] + data[at:-2] * 300 + data[-2:])
    decode(data)


@pytest.mark.parametrize("mode", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"])
def test_truncated_images_are_errors(mode: str) -> None:
    data = corpus.encode(mode)
    for length in (len(data) // 2, len(data) // 5):
        with pytest.raises(MediaError, match=r"messages\[0\].content\[1\]"):
            decode(data[:length])


@settings(max_examples=150, deadline=None)
@given(
    mode=st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"]),
    changes=st.lists(st.tuples(st.integers(8, 1_500), st.integers(0, 255)), max_size=12),
    length=st.integers(20, 2_500),
)
def test_hostile_images_decode_or_raise_media_errors(mode: str, changes: list, length: int) -> None:
    data = bytearray(corpus.encode(mode)[:length])
    for position, value in changes:
        if position < len(data):
            data[position] = value
    sniffed = sniff(data)
    if sniffed is None or sniffed.mime_type not in IMAGE_FORMATS:
        return
    try:
        pixels, _ = decode(bytes(data))
    except MediaError:
        return
    assert pixels.shape[0] == 3
    assert 0 <= pixels.min() <= pixels.max() <= 1


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**31))
def test_encoding_rounds_to_eight_bits_and_no_more(height: int, width: int, seed: int) -> None:
    pixels = torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))
    again, _ = decode(encode_png(pixels))
    assert (again - pixels).abs().max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("sigma", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("low_pass", [False, True])
@pytest.mark.parametrize("busy", [False, True])
def test_encoding_keeps_the_noise(sigma: float, low_pass: bool, busy: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    ramp = torch.linspace(0.3, 0.7, 96).expand(3, 96, 96)
    pixels = torch.rand(3, 96, 96, generator=generator) if busy else ramp
    noise = sigma * torch.randn(3, 96, 96, generator=generator)
    if low_pass:
        noise = functional.avg_pool2d(noise[None], 5, 1, 2, count_include_pad=False)[0]
    perturbed = (pixels + noise).clamp(0, 1)
    delivered, _ = decode(encode_png(perturbed))
    made, kept = (perturbed - pixels).flatten(), (delivered - pixels).flatten()
    assert kept.std() / made.std() == pytest.approx(1, abs=0.05)
    assert torch.corrcoef(torch.stack([made, kept]))[0, 1] > 0.95  # sigma 0.02 low-passed is one level of 255


def test_objects_outside_of_the_range_are_refused() -> None:
    for value in (torch.full((3, 8, 8), 1.5), torch.zeros(8, 8, 8), torch.zeros(5), torch.full((3, 8, 8), torch.nan)):
        with pytest.raises(UnsupportedMediaError):
            decode_object(value, max_pixels=1_000, path=PATH)
    grey = decode_object(torch.full((8, 9), 0.5), max_pixels=1_000, path=PATH).pixels
    assert grey.shape == (3, 8, 9)
    clear, _, notes = decode_object(torch.zeros(4, 8, 9), max_pixels=1_000, path=PATH)
    assert torch.equal(clear, torch.ones(3, 8, 9))
    assert notes == ("alpha composited on white",)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [None, (16, 24)])
def test_orientations_are_those_of_pillow(orientation: int, size: tuple[int, int] | None) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = corpus.encode("PNG", exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image)
    height, width = size or (upright.height, upright.width)
    found = decode_image(
        data, mime_type="image/png", limits=MediaLimits(), path=PATH, wanted=lambda *_: (height, width)
    )
    expected = np.asarray(upright.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    assert found.size == upright.size
    assert np.abs(found.pixels.permute(1, 2, 0).numpy() - expected).max() <= 1


@pytest.mark.parametrize("orientation", [0, 9, 60_000, "left", b"6", (6, 1), 6.5], ids=str)
def test_a_damaged_orientation_is_none(orientation: object) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.open(io.BytesIO(corpus.encode("JPEG", exif=exif)))
    image.getexif()[0x0112] = orientation
    assert decode_pillow(image).size == (32, 24)


def test_an_image_is_decoded_at_the_size_that_is_wanted() -> None:
    for mode in ("JPEG", "PNG", "WEBP", "TIFF"):
        sniffed = sniff(data := corpus.encode(mode))
        assert sniffed is not None
        found = decode_image(
            data, mime_type=sniffed.mime_type, limits=MediaLimits(), path=PATH, wanted=lambda h, w: (h // 2, w // 4)
        )
        assert (found.size, tuple(found.pixels.shape), found.pixels.dtype) == ((32, 24), (3, 12, 8), torch.uint8)


@pytest.mark.slow
def test_a_png_may_hold_any_amount_of_metadata() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("note", "x" * 200_000_000, zip=True)
    data = corpus.encode("PNG", pnginfo=info, icc_profile=b"x" * 5_000_000)
    assert torch.equal(decode(data)[0], decode(corpus.PNG)[0])


@pytest.mark.parametrize(
    ("sigma", "smooth", "expected"), [(0.1, False, "JPEG 95"), (0.05, False, "JPEG 98"), (0.02, True, "PNG")]
)
def test_the_smallest_encoding_that_keeps_the_noise_is_chosen(sigma: float, smooth: bool, expected: str) -> None:
    generator = torch.Generator().manual_seed(0)
    picture = torch.linspace(0.3, 0.7, 96).expand(3, 96, 96)
    noise = sigma * torch.randn(3, 96, 96, generator=generator)
    if smooth:
        noise = functional.avg_pool2d(noise[None], 5, 1, 2, count_include_pad=False)[0]
    encoding = choose_encoding(picture + noise, picture)
    assert encoding == expected
    delivered, _ = decode(encode_image(picture + noise, encoding).data)
    tolerance = 0.05 if expected == "PNG" else 0.02  # eight bits are all that there is
    assert (delivered - picture).std() / noise.std() == pytest.approx(1, abs=tolerance)


def test_an_error_names_no_object_in_memory() -> None:
    for data in (corpus.PNG[:60], corpus.JPEG[:40], corpus.encode("GIF")[:20], corpus.encode("TIFF")[:30]):
        with pytest.raises(MediaError) as caught:
            decode(data)
        assert "0x" not in str(caught.value)


def test_resizing_to_its_own_size_changes_nothing() -> None:
    pixels = torch.rand(3, 6, 5)
    assert resize(pixels, (6, 5)) is pixels
    assert resize(pixels, (12, 4)).shape == (3, 12, 4)
