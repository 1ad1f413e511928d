"""Pictures as data URIs, for cases."""

from __future__ import annotations

import base64
import io
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


def picture_uri(picture: torch.Tensor | Image.Image | Path | str, enlargement: int = 1) -> str:
    """Return a picture as the data URI of a PNG file.

    Args:
        picture: A tensor (channels, height, width) with one or three channels, floats in [0, 1] or bytes; a Pillow
            image; or a file.
        enlargement: Factor by which it is enlarged, pixels repeated.

    Raises:
        InputError: It is none of these, or the file holds no picture.
        ConfigurationError: The enlargement is below 1.

    Example:
        >>> import torch
        >>> picture_uri(torch.zeros(3, 8, 8))[:26]
        'data:image/png;base64,iVBO'
    """
    return _encoded(_pixels(picture), enlargement)


def difference_uri(
    original: torch.Tensor | Image.Image | Path | str,
    other: torch.Tensor | Image.Image | Path | str,
    amplification: float = 4,
    enlargement: int = 1,
) -> str:
    """Return what was changed in a picture, about middle grey, as the data URI of a PNG file.

    Args:
        original: As for `picture_uri`.
        other: The changed picture, of the same size.
        amplification: Factor by which the change is multiplied.
        enlargement: Factor by which the picture is enlarged, pixels repeated.

    Raises:
        InputError: One of them is no picture.
        ConfigurationError: Their sizes differ, or the enlargement is below 1.

    Example:
        >>> import torch
        >>> grey = torch.full((3, 8, 8), 0.5)
        >>> difference_uri(grey, grey) == picture_uri(grey)
        True
    """
    before, after = _pixels(original), _pixels(other)
    if before.shape != after.shape:
        raise ConfigurationError(
            f"pictures of {before.shape[1]}x{before.shape[0]} and {after.shape[1]}x{after.shape[0]} pixels have no"
            " difference: give two of one size"
        )
    return _encoded(MIDDLE_GREY + amplification * (after - before), enlargement)


def _encoded(pixels: NDArray[np.float64], enlargement: int) -> str:
    import numpy as np
    from PIL import Image

    if enlargement < 1:
        raise ConfigurationError(f"enlargement is {enlargement}; it has to be a whole number from 1 on")
    levels = np.rint(255 * pixels.clip(0, 1)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(levels.repeat(enlargement, axis=0).repeat(enlargement, axis=1)).save(file, "PNG", optimize=True)
    return PREFIX + base64.b64encode(file.getvalue()).decode()


def _pixels(picture: object) -> NDArray[np.float64]:
    """Return (height, width, 3) in [0, 1]."""
    import numpy as np
    import torch
    from PIL import Image, ImageOps

    if isinstance(picture, (str, Path)):
        try:
            with Image.open(picture) as image:
                return _pixels(ImageOps.exif_transpose(image))
        except OSError as error:
            raise InputError(f"{picture} is no picture that can be read: {error}") from error
    if isinstance(picture, Image.Image):
        return np.asarray(picture.convert("RGB"), dtype=np.float64) / 255
    if not isinstance(picture, torch.Tensor) or picture.ndim != 3 or picture.shape[0] not in (1, 3):
        given = tuple(picture.shape) if isinstance(picture, torch.Tensor) else type(picture).__name__
        raise InputError(f"{given} is no picture: give a tensor (channels, height, width), a Pillow image or a file")
    values = picture.detach().cpu().to(torch.float64) / (1 if picture.is_floating_point() else 255)
    return np.asarray(values.expand(3, -1, -1).permute(1, 2, 0))
