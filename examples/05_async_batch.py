"""Guard several requests at once from async code."""

import asyncio

from smoothguard_guardrail import SmoothGuardConfig, SmoothGuardRunnable
from smoothguard_guardrail.models import ChatTransformersMultimodal
from smoothguard_guardrail.models.reference import reference_path
from smoothguard_guardrail.models.reference.demo import load_demo


async def ask_all() -> None:
    model = ChatTransformersMultimodal.from_pretrained(str(reference_path()))
    guard = SmoothGuardRunnable(model, SmoothGuardConfig.reference())
    pictures = load_demo().pictures[:4]

    answers = await guard.abatch([[picture.message()] for picture in pictures], {"max_concurrency": 2})

    for picture, answer in zip(pictures, answers, strict=True):
        record = answer.response_metadata["smoothguard"]
        print(f"{picture.question} -> {answer.text} ({record['verdict']}, agreement {record['agreement']:.2f})")


def main() -> None:
    asyncio.run(ask_all())


if __name__ == "__main__":
    main()
