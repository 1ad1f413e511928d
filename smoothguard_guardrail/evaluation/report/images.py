"""Images as data URIs of PNG files, for cases."""

from __future__ import annotations

import base64
import io
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from smoothguard_guardrail.errors import ConfigurationError, InputError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from PIL import Image

PREFIX = "data:image/png;base64,"
MIDDLE_GREY = 128 / 255


def image_uri(image: torch.Tensor | Image.Image | Path | str, enlargement: int = 1) -> str:
    """Return an image as the data URI of a PNG file.

    Args:
        image: A tensor (channels, height, width) with one or three channels, float in [0, 1] or uint8; a Pillow
            image; or a file.
        enlargement: Factor by which every pixel is repeated, from 1.

    Raises:
        InputError: It is none of these, or the file cannot be read as an image.
        ConfigurationError: The enlargement is below 1.

    Example:
        >>> import torch
        >>> image_uri(torch.zeros(3, 8, 8))[:26]
        'data:image/png;base64,iVBO'
    """
    return _encode(_pixels(image), enlargement)


def difference_uri(
    original: torch.Tensor | Image.Image | Path | str,
    changed: torch.Tensor | Image.Image | Path | str,
    amplification: float = 4,
    enlargement: int = 1,
) -> str:
    """Return the change of an image, around middle grey, as the data URI of a PNG file.

    Args:
        original: As for `image_uri`.
        changed: The changed image, of the same size.
        amplification: Factor by which the change is multiplied.
        enlargement: Factor by which every pixel is repeated, from 1.

    Raises:
        InputError: One of them is not an image.
        ConfigurationError: Their sizes differ, or the enlargement is below 1.

    Example:
        >>> import torch
        >>> grey = torch.full((3, 8, 8), 0.5)
        >>> difference_uri(grey, grey) == image_uri(grey)
        True
    """
    before, after = _pixels(original), _pixels(changed)
    if before.shape != after.shape:
        sizes = " and ".join(f"{pixels.shape[1]}x{pixels.shape[0]}" for pixels in (before, after))
        raise ConfigurationError(f"expected two images of the same size, got {sizes} pixels")
    return _encode(MIDDLE_GREY + amplification * (after - before), enlargement)


def image_size(uri: str) -> tuple[int, int]:
    """Return the width and height in the header of a PNG data URI."""
    header = base64.b64decode(uri.removeprefix(PREFIX)[:32])
    return struct.unpack(">II", header[16:24])


def _encode(pixels: NDArray[np.float64], enlargement: int) -> str:
    import numpy as np
    from PIL import Image

    if enlargement < 1:
        raise ConfigurationError(f"expected an enlargement of at least 1, got {enlargement}")
    levels = np.rint(255 * pixels.clip(0, 1)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(levels.repeat(enlargement, axis=0).repeat(enlargement, axis=1)).save(file, "PNG", optimize=True)
    return PREFIX + base64.b64encode(file.getvalue()).decode()


def _pixels(image: object) -> NDArray[np.float64]:
    """Return (height, width, 3) in [0, 1]."""
    import numpy as np
    import torch
    from PIL import Image, ImageOps

    if isinstance(image, (str, Path)):
        try:
            with Image.open(image) as opened:
                return _pixels(ImageOps.exif_transpose(opened))
        except OSError as error:
            raise InputError(f"{image} cannot be read as an image: {error}") from error
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("RGB"), dtype=np.float64) / 255
    if not isinstance(image, torch.Tensor) or image.ndim != 3 or image.shape[0] not in (1, 3):
        got = tuple(image.shape) if isinstance(image, torch.Tensor) else type(image).__name__
        raise InputError(f"expected an image: a tensor (1 or 3, height, width), a Pillow image or a file; got {got}")
    values = image.detach().cpu().to(torch.float64) / (1 if image.is_floating_point() else 255)
    return np.asarray(values.expand(3, -1, -1).permute(1, 2, 0))
