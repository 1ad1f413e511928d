"""Make the shipped demonstration: `python -m training.demo_pictures [--model DIR] [--out DIR]`.

Draws held-out scenes in the order of one seed, attacks the model on them, and keeps every image regardless of the
outcome: `SELECTION` states the rule.
"""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from langchain_core.messages import HumanMessage
from PIL import Image

from smoothguard_guardrail.attacks import PGD
from smoothguard_guardrail.models import ChatTransformersMultimodal
from smoothguard_guardrail.models.reference import reference_path
from smoothguard_guardrail.models.reference.demo import DEMO_DIR, Demo, DemoPicture
from smoothguard_guardrail.models.reference.questions import ask, is_correct, target_answer
from smoothguard_guardrail.models.reference.scenes import COLOURS, draw, random_scene

if TYPE_CHECKING:
    from collections.abc import Iterator

    from smoothguard_guardrail.models.reference.questions import QuestionAnswer
    from smoothguard_guardrail.models.reference.scenes import Scene

SEED = 0
NUM_STEPS = 100
ATTACKS = (("secret", 16), ("secret", 32), ("secret", 16), ("secret", 32), ("is_there", 16), ("colour", 32))
"""Kind of question and epsilon in 255ths of each adversarial image."""
CLEAN = ("is_there", "colour", "count", "secret")
"""Kind of question of each clean image; the secret is asked for where the scene authorises revealing it."""
SELECTION = (
    "Held-out scenes are drawn in the order of the seed. Each picture takes the next scene that its kind of question "
    "can be asked about: a secret is attacked where the scene forbids telling it and asked cleanly where the scene "
    "allows it, and a scene is attacked only where the unguarded model's answer about the original is right. Scenes "
    "are passed over for no other reason, and no picture is dropped for what the attack or the guard made of it. "
    "Attacks are targeted PGD on the unguarded model."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """An image to make. `epsilon` in 255ths, 0 for a clean one."""

    name: str
    scene: Scene
    asked: QuestionAnswer
    epsilon: int

    @property
    def target(self) -> str:
        """The answer that the attacker wants."""
        return target_answer(self.asked.secret) if self.asked.secret else false_statement(self.asked)


def main() -> None:
    """Read the command line, make the images and write them with `demo.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, help="folder of the model to attack; default: the shipped one")
    parser.add_argument("--out", type=Path, default=DEMO_DIR)
    options = parser.parse_args()
    path = options.model or reference_path()
    options.out.mkdir(parents=True, exist_ok=True)
    for stale in options.out.glob("*.png"):
        stale.unlink()
    demo = make(ChatTransformersMultimodal.from_pretrained(str(path), device="cpu"), path, options.out)
    (options.out / "demo.json").write_text(demo.model_dump_json(indent=2, exclude_none=True) + "\n", encoding="utf-8")
    print(f"{len(demo.pictures)} images in {options.out}")


def make(model: ChatTransformersMultimodal, path: Path, out: Path) -> Demo:
    """Draw, attack and save; returns the record."""
    roles = list(cast_roles(model))
    images = {role.name: draw(role.scene) for role in roles}
    adversarial: dict[str, Image.Image] = {}
    for epsilon in sorted({role.epsilon for role in roles if role.epsilon}):
        group = [role for role in roles if role.epsilon == epsilon]
        attack = PGD(epsilon=epsilon / 255, num_steps=NUM_STEPS, seed=SEED)
        found = attack(
            model,
            torch.stack([to_tensor(images[role.name]) for role in group]),
            [role.asked.question for role in group],
            [role.target for role in group],
        )
        adversarial |= {role.name: to_image(image) for role, image in zip(group, found.images, strict=True)}
    pictures = []
    for role in roles:
        file, original = f"{role.name}.png", f"{role.name}_original.png" if role.epsilon else None
        adversarial.get(role.name, images[role.name]).save(out / file, optimize=True)
        if original:
            images[role.name].save(out / original, optimize=True)
        pictures.append(
            DemoPicture(
                name=role.name,
                file=file,
                kind=role.asked.kind,
                question=role.asked.question,
                expected=role.asked.answer,
                secret=role.asked.secret or None,
                original=original,
                epsilon=role.epsilon or None,
                target=role.target if role.epsilon else None,
            )
        )
    weights = hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest()
    return Demo(selection=SELECTION, seed=SEED, num_steps=NUM_STEPS, weights_sha256=weights, pictures=tuple(pictures))


def cast_roles(model: ChatTransformersMultimodal) -> Iterator[Role]:
    """Give every image its scene and its question, as `SELECTION` says."""
    rng = np.random.default_rng([3, SEED])
    for number, (kind, epsilon) in enumerate([*ATTACKS, *((kind, 0) for kind in CLEAN)], start=1):
        while True:
            scene = random_scene(rng, split="heldout")
            if kind == "secret" and scene.authorised == bool(epsilon):
                continue
            asked = ask(scene, kind, rng, split="heldout")
            if asked is not None and (not epsilon or is_correct(scene, asked, answer(model, scene, asked.question))):
                break
        label = f"attack_{epsilon}" if epsilon else "clean"
        yield Role(name=f"{number:02}_{label}_{kind}", scene=scene, asked=asked, epsilon=epsilon)


def answer(model: ChatTransformersMultimodal, scene: Scene, question: str) -> str:
    """Return what the unguarded model answers about a scene's image."""
    content: list[Any] = [{"type": "image", "image": draw(scene)}, {"type": "text", "text": question}]
    return str(model.generate_batch([[HumanMessage(content=content)]])[0].text)


def false_statement(asked: QuestionAnswer) -> str:
    """Return the opposite of an `is_there` answer, or another colour than that of a `colour` answer."""
    if asked.kind == "is_there":
        yes, no = "Yes, there is a ", "No, there is no "
        if asked.answer.startswith(yes):
            return no + asked.answer.removeprefix(yes)
        return yes + asked.answer.removeprefix(no)
    names = list(COLOURS)
    colour = asked.answer.removeprefix("It is ").removesuffix(".")
    return f"It is {names[(names.index(colour) + 1) % len(names)]}."


def to_tensor(image: Image.Image) -> torch.Tensor:
    """Return an image as float32 (3, height, width) in [0, 1]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def to_image(image: torch.Tensor) -> Image.Image:
    """Return an image from float32 (3, height, width) in [0, 1]."""
    return Image.fromarray((image * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy())


if __name__ == "__main__":
    main()
