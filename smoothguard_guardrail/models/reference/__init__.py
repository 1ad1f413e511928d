"""The shipped reference model: a small LLaVA that answers questions about drawn images.

`scenes` draws the images, `questions` asks about them; `training`, next to the package in the repository, made the
weights. Importing this module loads nothing heavy.
"""

from pathlib import Path

REFERENCE_DIR = Path(__file__).parent / "weights"
"""Folder of the shipped weights, processor and model card, in Hugging Face format."""


def reference_path() -> Path:
    """Return the folder of the shipped model, for `from_pretrained`.

    Raises:
        FileNotFoundError: The weights are missing from the installation.

    Example:
        >>> reference_path().name
        'weights'
    """
    if not (REFERENCE_DIR / "model.safetensors").is_file():
        raise FileNotFoundError(f"the reference model's weights are missing from {REFERENCE_DIR}")
    return REFERENCE_DIR


__all__ = ["REFERENCE_DIR", "reference_path"]
