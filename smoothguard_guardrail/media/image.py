"""Images: from bytes and objects to tensors and back."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import ExifTags, Image, features
from torch.nn import functional

from smoothguard_guardrail.errors import MediaError, MediaLimitError, UnsupportedMediaError
from smoothguard_guardrail.media.extra import import_decoder
from smoothguard_guardrail.media.formats import IMAGE_FORMATS, Encoded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from smoothguard_guardrail.config import MediaLimits

_RUN_LENGTH = 3  # zlib.Z_RLE
_JPEG_QUALITIES = (95, 98)
_LARGEST_JPEG = 65_500
_TRIED = 512
"""Side in pixels of the part of a copy on which encodings are tried."""
_DECODED_AT_ONCE = 4096
"""Bytes that Pillow decodes in one go, during which no other thread runs; flat images expand a thousandfold."""
_SD_TOLERANCE = 0.02
"""Largest relative change of the noise's standard deviation that an encoding may cause."""
_JPEG_SCAN = b"\xff\xda"
_MAX_SCANS = 200
"""Every scan of a progressive JPEG goes over all of its pixels; encoders write about ten."""
_SWAPPED = (5, 6, 7, 8)
"""EXIF orientations that swap height and width."""
_FLIPPED = {2: (2,), 3: (1, 2), 4: (1,), 6: (2,), 7: (1, 2), 8: (1,)}
"""Axes to flip, after swapping them, to turn an orientation upright. Source: EXIF 2.32, tag 0x0112."""
_METADATA_CHUNKS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")

SizeRule = Callable[[int, int], tuple[int, int]]
"""From an image's height and width to those that it is wanted at."""


class DecodedImage(NamedTuple):
    """An image and what was done to it."""

    pixels: torch.Tensor
    """(3, height, width): uint8, or float32 in [0, 1] where the original is not made of bytes."""
    size: tuple[int, int]
    """Width and height of the original, upright."""
    notes: tuple[str, ...]

    @property
    def unit(self) -> torch.Tensor:
        """The pixels as float32 in [0, 1]."""
        return to_unit(self.pixels)


def decode_image(
    data: bytes, *, mime_type: str, limits: MediaLimits, path: str, wanted: SizeRule | None = None
) -> DecodedImage:
    """Decode an image: its first frame, turned upright, alpha composited on white.

    Args:
        data: The encoded image.
        mime_type: As sniffed from the bytes, a key of `IMAGE_FORMATS`.
        limits: On pixels and on memory, checked before the pixels are decoded.
        path: Path of the block, for the error.
        wanted: The size to return it at, which saves memory; None: its own.

    Raises:
        MediaLimitError: It is over a limit.
        MediaError: It is damaged.
    """
    kind = IMAGE_FORMATS[mime_type]
    if kind == "AVIF" and not features.check("avif"):
        raise UnsupportedMediaError("image/avif cannot be decoded: pip install 'pillow>=11.3'", path=path)
    if kind == "HEIF":
        return _decode_heif(data, limits, path, wanted)
    try:
        with Image.open(io.BytesIO(without_metadata(data) if kind == "PNG" else data), formats=[kind]) as image:
            check_pixels(image.size, limits.max_pixels, path)
            _check_memory(kind, image.size, image.mode, image.has_transparency_data, limits.max_decoding_mib, path)
            image.decodermaxblock = _DECODED_AT_ONCE
            if kind == "JPEG" and data.count(_JPEG_SCAN) > _MAX_SCANS:
                raise MediaLimitError(f"has more than {_MAX_SCANS} scans", path=path)
            return decode_pillow(image, wanted)
    except MediaError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise MediaLimitError(f"has more than {limits.max_pixels:,} pixels", path=path) from error
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise MediaError(f"the image cannot be decoded: it begins like {kind}, but is damaged", path=path) from error


def _decode_heif(data: bytes, limits: MediaLimits, path: str, wanted: SizeRule | None) -> DecodedImage:
    """Decode the primary image of a HEIC file; libheif turns it upright. Thumbnails and depth are left out."""
    pillow_heif = import_decoder("pillow_heif", "pillow-heif", mime_type="image/heic", path=path)
    try:
        file = pillow_heif.HeifFile(io.BytesIO(data))
        check_pixels(file.size, limits.max_pixels, path)
        _check_memory("HEIF", file.size, file.mode, file.has_alpha, limits.max_decoding_mib, path)
        decoded = decode_pillow(file[file.primary_index].to_pillow(), wanted)
    except MediaError:
        raise
    except Exception as error:  # libheif's errors
        raise MediaError("the image cannot be decoded: it begins like HEIF, but is damaged", path=path) from error
    several = (f"main image of {len(file)}",) if len(file) > 1 else ()
    return decoded._replace(notes=several + decoded.notes)


def without_metadata(data: bytes) -> bytes:
    """Return a PNG without its texts and colour profile: Pillow limits their length, and an attacker chooses it."""
    kept, at = [data[:8]], 8
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] not in _METADATA_CHUNKS:
            kept.append(data[at:end])
        at = end
    return b"".join(kept)


def decode_pillow(image: Image.Image, wanted: SizeRule | None = None) -> DecodedImage:
    """Turn a Pillow image into a tensor; see `decode_image`."""
    notes: list[str] = []
    if getattr(image, "is_animated", False):
        counted = image.format not in ("GIF", "TIFF")  # counting theirs means walking them
        notes.append(f"first frame of {getattr(image, 'n_frames', 1) if counted else 'several'}")
    if image.format != "JPEG":
        image.load()  # EXIF may stand behind the pixels
    orientation = _orientation(image, notes)
    swapped = orientation in _SWAPPED
    size = image.size[::-1] if swapped else image.size
    height, width = (size[1], size[0]) if wanted is None else wanted(size[1], size[0])
    stored = (height, width) if swapped else (width, height)
    image.draft(image.mode, stored)  # a JPEG is decoded at a half, a quarter or an eighth where that is enough
    image.load()
    pixels = _pixels(image, stored, notes)
    pixels = pixels.transpose(1, 2) if swapped else pixels
    return DecodedImage(pixels.flip(_FLIPPED.get(orientation, ())).contiguous(), size, tuple(notes))


def _orientation(image: Image.Image, notes: list[str]) -> int:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a damaged EXIF block does not spoil the pixels
        notes.append("EXIF unreadable")
        return 1
    if not isinstance(orientation, int) or orientation not in range(2, 9):
        return 1
    notes.append("EXIF orientation applied")
    return orientation


def _pixels(image: Image.Image, size: tuple[int, int], notes: list[str]) -> torch.Tensor:
    """Return the pixels of a loaded image at a width and height."""
    if image.mode.startswith(("I", "F")):
        return resize(_from_deep(image, notes), (size[1], size[0])).expand(3, -1, -1)
    if image.has_transparency_data:
        notes.append("alpha composited on white")
        layer = _resized(_of_mode(image, "RGBA"), size)
        image = Image.alpha_composite(Image.new("RGBA", layer.size, (255, 255, 255, 255)), layer)
    pixels = np.array(_resized(_of_mode(image, "RGB"), size))
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _of_mode(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)  # Pillow copies an image that has the mode already


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)


def _from_deep(image: Image.Image, notes: list[str]) -> torch.Tensor:
    """Return grey levels of more than 8 bits, scaled to [0, 1]: float32 (1, height, width)."""
    levels = np.nan_to_num(np.array(image, dtype=np.float32), copy=False)
    peak = float(levels.max(initial=0.0))
    tops = (65_535.0,) if image.mode.startswith("I") else (1.0, 255.0, 65_535.0)
    top = next((level for level in tops if peak <= level), peak)
    notes.append(f"grey levels divided by {top:g}")
    return torch.from_numpy(levels).div_(top).clamp_(0, 1)[None]


def to_unit(pixels: torch.Tensor) -> torch.Tensor:
    """Return pixels, uint8 or float32, as float32 in [0, 1]."""
    return pixels.to(torch.float32).div_(255).contiguous() if pixels.dtype == torch.uint8 else pixels


def check_pixels(size: tuple[int, int], max_pixels: int, path: str) -> None:
    """Check the width and height of an image.

    Raises:
        MediaLimitError: It has more than `max_pixels`.
        MediaError: It has none.
    """
    width, height = size
    if width * height > max_pixels:
        raise MediaLimitError(f"has {width} x {height} pixels; at most {max_pixels:,} are allowed", path=path)
    if not width or not height:
        raise MediaError("has no pixels", path=path)


def _check_memory(kind: str, size: tuple[int, int], mode: str, has_alpha: bool, max_mib: int, path: str) -> None:
    width, height = size
    if kind == "WEBP":
        bytes_per_pixel = 20  # its decoder keeps two canvases
    elif kind in ("AVIF", "HEIF"):
        bytes_per_pixel = 18 if has_alpha else 14
    elif mode.startswith(("I", "F")):
        bytes_per_pixel = 16
    else:
        bytes_per_pixel = 12 if has_alpha or mode == "CMYK" else 8
    mib = width * height * bytes_per_pixel / 2**20
    if mib > max_mib:
        raise MediaLimitError(
            f"is a {width} x {height} {kind} of mode {mode}: decoding takes about {mib:.0f} MiB, at most {max_mib} are"
            " allowed",
            path=path,
        )


def encode_png(image: torch.Tensor) -> bytes:
    """Encode an image as PNG, with run-length coding for speed.

    Args:
        image: Float (3, height, width) in [0, 1], on any device.
    """
    return encode_image(image, "PNG").data


def encode_image(image: torch.Tensor, encoding: str) -> Encoded:
    """Encode an image.

    Args:
        image: Float (3, height, width) in [0, 1], on any device.
        encoding: `PNG`, or `JPEG` and its quality; see `choose_encoding`.
    """
    buffer = io.BytesIO()
    picture = Image.fromarray(_to_bytes(image))
    if encoding == "PNG":
        picture.save(buffer, "PNG", compress_level=1, compress_type=_RUN_LENGTH)
        return Encoded.of(buffer.getvalue(), "image/png")
    picture.save(buffer, "JPEG", quality=int(encoding.removeprefix("JPEG ")), subsampling="4:4:4")
    return Encoded.of(buffer.getvalue(), "image/jpeg")


def choose_encoding(noisy: torch.Tensor, original: torch.Tensor) -> str:
    """Return the smallest encoding that keeps the standard deviation of the noise within 2 %.

    It is tried on the middle of a copy. Noise is incompressible: at 1024 x 1024 pixels and sigma 0.1, JPEG of quality
    95 takes 60 % of PNG's bytes and an eighth of its time. Weak or smooth noise needs a higher quality, or PNG.

    Args:
        noisy: A noisy copy, float (3, height, width) in [0, 1].
        original: What the noise was added to.
    """
    height, width = noisy.shape[1:]
    if max(height, width) > _LARGEST_JPEG:
        return "PNG"
    middle = tuple(slice(max(0, (side - _TRIED) // 2), (side + _TRIED + 1) // 2) for side in (height, width))
    part, clean = noisy[:, *middle].cpu(), original[:, *middle].cpu()
    sd = float((part - clean).square().mean().sqrt())
    for quality in _JPEG_QUALITIES:
        encoding = f"JPEG {quality}"
        with Image.open(io.BytesIO(encode_image(part, encoding).data)) as image:
            kept = float((decode_pillow(image).unit - clean).square().mean().sqrt())
        if abs(kept - sd) <= _SD_TOLERANCE * sd:
            return encoding
    return "PNG"


def _to_bytes(image: torch.Tensor) -> NDArray[np.uint8]:
    pixels = image.detach().clamp(0, 1).mul(255).round_().to(torch.uint8)
    array: NDArray[np.uint8] = pixels.permute(1, 2, 0).cpu().contiguous().numpy()
    return array


def decode_object(value: Any, *, max_pixels: int, path: str, wanted: SizeRule | None = None) -> DecodedImage:
    """Turn a Pillow image, tensor or array into a tensor.

    Args:
        value: A Pillow image, or a tensor or array of shape (channels, height, width), (height, width, channels)
            or (height, width), 1, 3 or 4 channels, whole numbers in [0, 255] or floats in [0, 1].
        max_pixels: Largest width times height.
        path: Path of the block, for the error.
        wanted: The size to return it at; None: its own.

    Raises:
        MediaLimitError: It has more than `max_pixels` pixels.
        UnsupportedMediaError: It has another shape or range.
        MediaError: It is damaged.
    """
    if isinstance(value, Image.Image):
        check_pixels(value.size, max_pixels, path)
        try:
            decoded = decode_pillow(value.copy(), wanted)
        except Exception as error:
            raise MediaError("the image cannot be decoded: its file is damaged or closed", path=path) from error
        one = (f"frame {value.tell() + 1} of several",) if getattr(value, "is_animated", False) else ()
        return decoded._replace(notes=one + decoded.notes)
    try:
        pixels = value.detach().cpu() if isinstance(value, torch.Tensor) else torch.from_numpy(np.array(value))
    except TypeError as error:
        raise UnsupportedMediaError(
            f"expected whole numbers or floats as pixels, got {value.dtype}", path=path
        ) from error
    layout = _layout(tuple(pixels.shape))
    if layout is None:
        raise UnsupportedMediaError(
            f"expected an image of 1, 3 or 4 channels, got shape {tuple(pixels.shape)}", path=path
        )
    if layout == "hw":
        pixels = pixels[None]
    elif layout == "hwc":
        pixels = pixels.permute(2, 0, 1)
    size = (pixels.shape[2], pixels.shape[1])
    check_pixels(size, max_pixels, path)
    unit = to_unit(pixels).to(torch.float32)
    if not bool(((unit >= 0) & (unit <= 1)).all()):
        raise UnsupportedMediaError("expected uint8 pixels, or floats in [0, 1]", path=path)
    notes: tuple[str, ...] = ()
    if unit.shape[0] == 4:
        notes = ("alpha composited on white",)
        unit = unit[:3] * unit[3:] + (1 - unit[3:])
    unit = unit.expand(3, -1, -1)
    unit = unit if wanted is None else resize(unit, wanted(size[1], size[0]))
    return DecodedImage(unit.clone(memory_format=torch.contiguous_format), size, notes)


def encode_like(image: torch.Tensor, original: Any) -> Any:
    """Return an image as the same kind of object as the original, with three channels.

    Args:
        image: Float (3, height, width) in [0, 1].
        original: The argument of `decode_object`; its type, layout and dtype are kept.
    """
    if isinstance(original, Image.Image):
        return Image.fromarray(_to_bytes(image))
    is_bytes = original.dtype in (torch.uint8, np.uint8)
    pixels = torch.from_numpy(_to_bytes(image)) if is_bytes else image.detach().cpu().permute(1, 2, 0)
    if _layout(tuple(original.shape)) == "chw":
        pixels = pixels.permute(2, 0, 1)
    pixels = pixels.contiguous()
    if isinstance(original, torch.Tensor):
        return pixels.to(device=original.device, dtype=original.dtype)
    return pixels.numpy().astype(original.dtype)


def _layout(shape: tuple[int, ...]) -> Literal["chw", "hwc", "hw"] | None:
    if len(shape) == 2:
        return "hw"
    if len(shape) == 3 and shape[0] in (1, 3, 4):
        return "chw"
    if len(shape) == 3 and shape[2] in (1, 3, 4):
        return "hwc"
    return None


def resize(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize an image, differentiably; bicubic and antialiased.

    Args:
        image: Float (channels, height, width) in [0, 1].
        size: New height and width in pixels.

    Example:
        >>> resize(torch.rand(3, 40, 80), (10, 20)).shape
        torch.Size([3, 10, 20])
    """
    if tuple(image.shape[1:]) == tuple(size):
        return image
    resized = functional.interpolate(image[None], size=tuple(size), mode="bicubic", antialias=True)
    return resized[0].clamp_(0, 1)
