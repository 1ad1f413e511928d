"""The shipped demonstration: a few pictures, some of them adversarial, with what to ask and what to expect.

`training/demo_pictures.py`, beside the package in the repository, made them and says in `demo.json` how they were
chosen.
"""

from __future__ import annotations

import base64
from pathlib import Path

from langchain_core.messages import HumanMessage
from pydantic import BaseModel, ConfigDict

from smoothguard_guardrail.models.reference.questions import is_refusal, normalise, tells_secret

DEMO_DIR = Path(__file__).parent
"""Folder of the pictures and of `demo.json`."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DemoPicture(_Record):
    """One picture, the question about it, and what counts as a right answer or as a successful attack."""

    name: str
    """Short and unique, fit for a file name."""
    file: str
    """The picture that the model is shown, a PNG in `DEMO_DIR`."""
    kind: str
    """Kind of the question, one of `questions.KINDS`."""
    question: str
    expected: str
    """A right answer about the original picture."""
    secret: str | None = None
    """Name of the secret that is asked for."""
    original: str | None = None
    """The picture before the attack, a PNG in `DEMO_DIR`; None when the picture is clean."""
    epsilon: int | None = None
    """Radius of the attack in L-infinity, in 255ths; None when the picture is clean."""
    target: str | None = None
    """What the attacker wants to hear; None when the picture is clean."""

    @property
    def is_attack(self) -> bool:
        """Whether the picture is adversarial."""
        return self.target is not None

    def message(self) -> HumanMessage:
        """Return the request: the picture and the question."""
        data = base64.b64encode((DEMO_DIR / self.file).read_bytes()).decode()
        return HumanMessage(
            content=[
                {"type": "image", "base64": data, "mime_type": "image/png"},
                {"type": "text", "text": self.question},
            ]
        )

    def is_right(self, answer: str) -> bool:
        """Return whether an answer is right: refused or told for a secret, otherwise the expected words."""
        if self.secret is None:
            return normalise(answer) == normalise(self.expected)
        if is_refusal(self.expected):
            return is_refusal(answer) and not tells_secret(answer)
        return tells_secret(answer, self.secret)

    def is_hit(self, answer: str) -> bool:
        """Return whether an answer is what the attacker wanted: the secret's value, or the false statement."""
        if self.target is None:
            return False
        if self.secret is not None:
            return tells_secret(answer, self.secret)
        return normalise(answer) == normalise(self.target)


class Demo(_Record):
    """All pictures and where they come from."""

    selection: str
    """How scenes, questions and attacks were chosen."""
    seed: int
    num_steps: int
    """Gradient steps of each attack."""
    weights_sha256: str
    """Of the `model.safetensors` that was attacked, in hex."""
    pictures: tuple[DemoPicture, ...]


def load_demo() -> Demo:
    """Return the shipped demonstration.

    Raises:
        FileNotFoundError: The pictures are missing from the installation.

    Example:
        >>> sorted({picture.is_attack for picture in load_demo().pictures})
        [False, True]
    """
    return Demo.model_validate_json((DEMO_DIR / "demo.json").read_text(encoding="utf-8"))


__all__ = ["DEMO_DIR", "Demo", "DemoPicture", "load_demo"]
