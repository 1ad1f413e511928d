"""Attack settings, random signs as a control, and the shipped model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch

from benchmarks.study.design import ADAPTIVE_EPSILON
from smoothguard_guardrail._internal.files import file_sha256, write_atomic
from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.evaluation.attackers import AttackSettings
from smoothguard_guardrail.evaluation.input_media import read_image
from smoothguard_guardrail.evaluation.items import Item
from smoothguard_guardrail.evaluation.shared import resolve_model
from smoothguard_guardrail.media.image import encode_png
from smoothguard_guardrail.models import ChatTransformersMultimodal


def adaptive_attack(config: SmoothGuardConfig | None, **changes: Any) -> AttackSettings:
    """Return the attack of `ADAPTIVE_EPSILON` through a guard's perturbation; None: on the bare model."""
    settings: dict[str, Any] = {"epsilon": ADAPTIVE_EPSILON / 255, "num_steps": 1, "through": config}
    if config is not None:
        settings |= {"step_size": ADAPTIVE_EPSILON / 255 / 8, "momentum": 0.9, "step_decay": True}
    return AttackSettings(**settings | changes)


def random_signs(items: Sequence[Item], epsilon: int, folder: Path) -> tuple[Item, ...]:
    """Move every value by `epsilon` 255ths up or down at random: the control of an attack of that size."""
    generator = torch.Generator().manual_seed(0)
    changed = []
    for item in items:
        pixels = read_image(item.media[0])
        signs = torch.randint(0, 2, pixels.shape, generator=generator) * 2.0 - 1
        name = f"{item.id.replace('/', '-')}-{file_sha256(item.media[0])[:12]}.png"
        path = folder / f"random-signs-{epsilon}" / name
        write_atomic(path, encode_png((pixels + epsilon / 255 * signs).clamp(0, 1)))
        changed.append(item.model_copy(update={"media": (path,)}))
    return tuple(changed)


def load_reference() -> ChatTransformersMultimodal:
    """Return the shipped model that this process shares."""
    return cast("ChatTransformersMultimodal", resolve_model("reference"))
