"""Gradients through steps of a defence that have none, such as clipping and rounding (BPDA)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from smoothguard_guardrail.errors import AdapterError

if TYPE_CHECKING:
    from smoothguard_guardrail.attacks.problem import Transform


class StraightThrough:
    """Applies a defence in the forward pass and a surrogate's gradient in the backward pass (BPDA).

    A defence whose gradient is zero or missing looks strong to gradient attacks without being so. Wrap it in this
    class to attack it: the forward pass uses the real defence, the backward pass a smooth stand-in.

    Source: Athalye et al., arXiv 1802.00420, section 4.1.

    Args:
        transform: The defence, called with images and a generator; it needs no gradient.
        surrogate: What to differentiate instead, called with the generator in the same state as the defence, so that
            both draw the same numbers; None: the identity.

    Example:
        >>> def threshold(images, *, generator):
        ...     return (images > 0.5).float()
        >>> images = torch.tensor([[[[0.4, 0.6]]]], requires_grad=True)
        >>> seen = StraightThrough(threshold)(images, generator=torch.Generator())
        >>> seen.sum().backward()
        >>> seen.tolist(), images.grad.tolist()
        ([[[[0.0, 1.0]]]], [[[[1.0, 1.0]]]])
    """

    def __init__(self, transform: Transform, surrogate: Transform | None = None) -> None:
        self.transform = transform
        self.surrogate = surrogate

    def __repr__(self) -> str:
        return f"StraightThrough({self.transform!r}, surrogate={self.surrogate!r})"

    def __call__(self, images: torch.Tensor, /, *, generator: torch.Generator) -> torch.Tensor:
        """Return the defence's output with the surrogate's gradient.

        Raises:
            AdapterError: Defence and surrogate return different shapes.
        """
        before = generator.get_state()
        with torch.no_grad():
            real = self.transform(images.detach(), generator=generator)
        smooth = images
        if self.surrogate is not None:
            after = generator.get_state()
            generator.set_state(before)
            smooth = self.surrogate(images, generator=generator)
            generator.set_state(after)
        if real.shape != smooth.shape:
            raise AdapterError(
                f"expected {(*real.shape,)} from the surrogate, as from the defence, got {(*smooth.shape,)}"
            )
        result: torch.Tensor = _ReplaceValues.apply(smooth, real)
        return result


class EightBit:
    """Clips to [0, 1] and rounds to 8 bits, as a file does; its gradient is that of the identity.

    Example:
        >>> EightBit()(torch.tensor([-0.1, 0.5, 1.2])).mul(255).tolist()
        [0.0, 128.0, 255.0]
    """

    def __repr__(self) -> str:
        return "EightBit()"

    def __call__(self, images: torch.Tensor, /, *, generator: torch.Generator | None = None) -> torch.Tensor:
        """Return multiples of 1/255 in [0, 1]; the generator is not used."""
        real = (images.detach() * 255).round().clamp(0, 255) / 255
        result: torch.Tensor = _ReplaceValues.apply(images, real)
        return result


class _ReplaceValues(torch.autograd.Function):
    """The second argument's values with the first one's graph."""

    @staticmethod
    def forward(ctx: Any, smooth: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        return real.to(smooth.dtype, copy=True)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradients[0], None
