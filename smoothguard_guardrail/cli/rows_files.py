"""What commands that read the user's rows share: the help of their options, and the radius of attacks on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smoothguard_guardrail.cli._numbers import parse_epsilon
from smoothguard_guardrail.errors import ConfigurationError, InputError

if TYPE_CHECKING:
    from pathlib import Path

    from smoothguard_guardrail.evaluation.calibration import Rows
    from smoothguard_guardrail.evaluation.identity import ModelIdentity
    from smoothguard_guardrail.evaluation.input_media import MediumKind

DATA_HELP = (
    'JSON lines: {"image": PATH, "question": ..., "answer": ...} for harmless rows,'
    ' {"image": PATH, "question": ..., "target": ...} for rows to attack. "audio" instead of "image": an audio file.'
)
EPSILON_HELP = "Radius of the attacks made here; by default 16/255 for images, 0.005 for audio samples in [-1, 1]."


def read(data: Path, limit: int | None, attacked: Path | None = None) -> Rows:
    """Read the user's rows, the first ones of each kind up to a limit.

    Args:
        data: Harmless rows and rows to attack.
        limit: None: all.
        attacked: Rows whose media are adversarial already.

    Raises:
        InputError: A file cannot be read, or `attacked` has harmless rows.
    """
    from smoothguard_guardrail.evaluation.calibration import Rows, read_rows

    found = read_rows(data)
    given = () if attacked is None else read_rows(attacked)
    if any(item.category == "harmless" for item in given):
        raise InputError(f'{attacked}: rows with "answer" are harmless: put them into the file of --data')
    return Rows(
        harmless=tuple(item for item in found if item.category == "harmless")[:limit],
        attack=tuple(item for item in found if item.category == "attack")[:limit],
        given=given[:limit],
    )


def attacked_kinds(rows: Rows) -> tuple[MediumKind, ...]:
    """Return the kinds of media of the rows to attack; images, if there are none."""
    from smoothguard_guardrail.evaluation.calibration import Rows

    return Rows(harmless=(), attack=rows.attack).kinds or ("image",)


def check_attackable(rows: Rows) -> None:
    """Check that the rows to attack can be attacked here.

    Raises:
        ConfigurationError: They have images and audio, or one has no target.
    """
    if len(attacked_kinds(rows)) > 1:
        raise ConfigurationError("the rows to attack have images and audio, whose radii differ: use one kind")
    if any("target" not in item.details for item in rows.attack):
        raise ConfigurationError('every row to attack needs a "target" where attacks are made here')


def radius(epsilon: str | None, kind: MediumKind) -> float:
    """Return the radius of attacks: that of `--epsilon`, or the default for a kind of media.

    Raises:
        ConfigurationError: It is not a positive number.
    """
    from smoothguard_guardrail.cli.attack.settings import DEFAULT_EPSILON

    return parse_epsilon("--epsilon", epsilon or DEFAULT_EPSILON[kind])


def provenance(identity: ModelIdentity, seed: int, **files: Path | None) -> dict[str, Any]:
    """Return what a report says about where its figures come from: the model, the files by hash, and the versions."""
    from smoothguard_guardrail._internal.files import file_sha256
    from smoothguard_guardrail._internal.versions import package_versions

    return {
        "model": identity.model_dump(mode="json"),
        "seed": seed,
        **{name: None if path is None else f"{path.name}, SHA-256 {file_sha256(path)}" for name, path in files.items()},
        "versions": package_versions(("smoothguard-guardrail", "torch", "transformers")),
    }
