"""Use your own perturbation and your own stance classifier: plain functions are enough."""

from collections.abc import Sequence

import torch

from smoothguard_guardrail import GuardComponents, SmoothGuardConfig, SmoothGuardRunnable
from smoothguard_guardrail.models import ChatTransformersMultimodal
from smoothguard_guardrail.models.reference import reference_path
from smoothguard_guardrail.models.reference.demo import load_demo
from smoothguard_guardrail.result import Stance


def erase_and_blur(batch: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
    """Set one pixel in five to grey, then average 3 x 3 neighbours; (num_samples, 3, height, width) in [0, 1]."""
    gone = torch.rand(batch[:, :1].shape, generator=generator, device=batch.device) < 0.2
    return torch.nn.functional.avg_pool2d(batch.masked_fill(gone, 0.5), 3, stride=1, padding=1, count_include_pad=False)


def by_phrase(texts: Sequence[str]) -> list[Stance]:
    """Tell stances apart by how this model words its refusals."""
    return ["refuses" if text.startswith("I'm sorry") else "answers" for text in texts]


def main() -> None:
    guard = SmoothGuardRunnable(
        ChatTransformersMultimodal.from_pretrained(str(reference_path())),
        SmoothGuardConfig(num_samples=8),
        components=GuardComponents(image_perturber=erase_and_blur, stance_classifier=by_phrase),
    )
    picture = next(picture for picture in load_demo().pictures if picture.is_attack)
    result = guard.guard([picture.message()])
    print(picture.question)
    print(result.answer.text)
    for cluster in result.clusters:
        print(f"{cluster.size} answers: {cluster.stance}, score {cluster.score:.2f}")


if __name__ == "__main__":
    main()
