"""Attack a model yourself: once without knowing the guard, once through the guard's own perturbation."""

import torch
from langchain_core.messages import HumanMessage

from smoothguard_guardrail import SmoothGuardConfig, SmoothGuardRunnable
from smoothguard_guardrail.attacks import EOTPGD, PGD
from smoothguard_guardrail.config import MediaLimits
from smoothguard_guardrail.core.model_info import ModelInfo
from smoothguard_guardrail.core.model_input import GuardView
from smoothguard_guardrail.media.image import decode_image
from smoothguard_guardrail.models import ChatTransformersMultimodal
from smoothguard_guardrail.models.reference import reference_path
from smoothguard_guardrail.models.reference.demo import DEMO_DIR, load_demo


def main() -> None:
    picture = next(picture for picture in load_demo().pictures if picture.original and picture.secret)
    data = (DEMO_DIR / str(picture.original)).read_bytes()
    clean = decode_image(data, mime_type="image/png", limits=MediaLimits(), path=str(picture.original)).unit
    model = ChatTransformersMultimodal.from_pretrained(str(reference_path()))
    config = SmoothGuardConfig.reference()
    guard = SmoothGuardRunnable(model, config)

    def show(name: str, image: torch.Tensor) -> None:
        message = HumanMessage([{"type": "image", "image": image}, {"type": "text", "text": picture.question}])
        print(f"{name:<27} bare: {model.invoke([message]).text:<40} guarded: {guard.invoke([message]).text}")

    view = GuardView(config=config, model_info=ModelInfo.find(model))
    attacks = {
        "blind attack": PGD(16 / 255, num_steps=20, seed=0),
        "adaptive attack": EOTPGD(16 / 255, view, num_steps=10, num_draws=8, seed=0),
    }
    print("question:", picture.question)
    print("attacker wants:", picture.target)
    show("clean", clean)
    for name, attack in attacks.items():
        result = attack(model, clean[None], [picture.question], [str(picture.target)])
        show(f"{name} (loss {result.loss.item():.2f})", result.images[0])
    print("With so few steps the guard looks better than it is: judge it by hundreds of images and steps.")


if __name__ == "__main__":
    main()
