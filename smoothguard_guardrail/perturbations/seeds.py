"""Seeds, generators, and the device on which noise is drawn."""

from __future__ import annotations

import secrets

import numpy as np
import torch

from smoothguard_guardrail.errors import ConfigurationError


def draw_seed() -> int:
    """Return a seed in [0, 2**63) from the operating system's entropy.

    Example:
        >>> 0 <= draw_seed() < 2**63
        True
    """
    return secrets.randbits(63)


def make_generator(seed: int, *indices: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator whose stream is fixed by the seed and the indices.

    Neighbouring seeds and indices give unrelated streams. On the CPU, PyTorch's generator keeps 32 bits of its seed:
    enough against guessing noise that is new for every request, too few for a secret key.

    Args:
        seed: At least 0.
        indices: What the stream is for, such as (medium, sample); each at least 0.
        device: Where the generator draws.

    Raises:
        ConfigurationError: If a number is negative.

    Example:
        >>> make_generator(7, 0, 1).initial_seed() == make_generator(7, 0, 1).initial_seed()
        True
    """
    if min(seed, *indices, 0) < 0:
        raise ConfigurationError(f"seeds and indices must be at least 0, got {(seed, *indices)}")
    (mixed,) = np.random.SeedSequence(seed, spawn_key=indices).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(mixed))


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """Return the device for a name.

    Args:
        device: A torch device, its name, or `auto`: the first available of cuda, mps and cpu.

    Raises:
        ConfigurationError: If the device does not exist or cannot be used on this machine.

    Example:
        >>> resolve_device("cpu")
        device(type='cpu')
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigurationError(f"device {str(device)!r} cannot be used: {error}") from None
    return resolved
