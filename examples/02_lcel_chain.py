"""Replace the chat model in an LCEL chain by the guard: prompt | guard | parser."""

import base64

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from smoothguard_guardrail import SmoothGuardConfig, SmoothGuardRunnable
from smoothguard_guardrail.models import ChatTransformersMultimodal
from smoothguard_guardrail.models.reference import reference_path
from smoothguard_guardrail.models.reference.demo import DEMO_DIR, load_demo


def main() -> None:
    prompt = ChatPromptTemplate(
        [
            ("system", "You are a helpful assistant."),
            (
                "human",
                [
                    {"type": "image", "base64": "{image}", "mime_type": "image/png"},
                    {"type": "text", "text": "{question}"},
                ],
            ),
        ]
    )
    model = ChatTransformersMultimodal.from_pretrained(str(reference_path()))
    guard = SmoothGuardRunnable(model, SmoothGuardConfig.reference())
    chain = prompt | guard | StrOutputParser()

    picture = next(picture for picture in load_demo().pictures if not picture.is_attack)
    image = base64.b64encode((DEMO_DIR / picture.file).read_bytes()).decode()
    print(picture.question)
    print(chain.invoke({"image": image, "question": picture.question}))


if __name__ == "__main__":
    main()
