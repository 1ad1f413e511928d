"""Random rotations: they move what lies far from the centre further than shifts do."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from smoothguard_guardrail.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class RandomRotation:
    """Rotates every copy about its centre by a random angle; edge pixels fill the corners.

    Values between pixels are interpolated bilinearly. Takes and returns (num_samples, channels, height, width) in
    [0, 1]. Differentiable.

    Args:
        max_rotation: Largest angle in degrees; angles are uniform in [-max_rotation, max_rotation]. 0 is the identity.

    Raises:
        ConfigurationError: If `max_rotation` is not in [0, 180].

    Example:
        >>> RandomRotation(8.0)(torch.rand(4, 3, 8, 8), generator=torch.Generator().manual_seed(0)).shape
        torch.Size([4, 3, 8, 8])
    """

    max_rotation: float

    def __post_init__(self) -> None:
        if not 0 <= self.max_rotation <= 180:
            raise ConfigurationError(f"max_rotation must be in [0, 180] degrees, got {self.max_rotation}")

    def __call__(self, batch: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
        """Return the rotated copies."""
        if self.max_rotation == 0:
            return batch
        draws = torch.rand(len(batch), generator=generator, device=batch.device).tolist()
        angles = [math.radians(self.max_rotation) * (2 * draw - 1) for draw in draws]
        return torch.stack([_rotate(image, angle) for image, angle in zip(batch, angles, strict=True)])


def _rotate(image: torch.Tensor, angle: float) -> torch.Tensor:
    height, width = image.shape[-2:]
    cos, sin = math.cos(angle), math.sin(angle)
    # Coordinates run from -1 to 1 along each axis, so on images that are not square the axes have different units.
    matrix = image.new_tensor([[cos, -sin * height / width, 0.0], [sin * width / height, cos, 0.0]])
    places = F.affine_grid(matrix[None], [1, *image.shape], align_corners=False)
    # The outermost pixels' centres: what lies beyond takes their values.
    limit = image.new_tensor([1 - 1 / width, 1 - 1 / height])
    rotated = F.grid_sample(image[None], places.clamp(-limit, limit), align_corners=False)[0]
    # Rounding may exceed [0, 1] by 1e-7; clamping the detached tensor corrects that and keeps the gradient.
    rotated.detach().clamp_(0.0, 1.0)
    return rotated
