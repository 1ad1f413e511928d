"""Ask a model about an attacked image, without and with the guard."""

import base64

from langchain_core.messages import HumanMessage

from smoothguard_guardrail import SmoothGuardConfig, SmoothGuardRunnable
from smoothguard_guardrail.models import ChatTransformersMultimodal
from smoothguard_guardrail.models.reference import reference_path
from smoothguard_guardrail.models.reference.demo import DEMO_DIR, load_demo


def main() -> None:
    picture = next(picture for picture in load_demo().pictures if picture.is_attack)
    image = base64.b64encode((DEMO_DIR / picture.file).read_bytes()).decode()
    message = HumanMessage(
        content=[
            {"type": "image", "base64": image, "mime_type": "image/png"},
            {"type": "text", "text": picture.question},
        ]
    )
    model = ChatTransformersMultimodal.from_pretrained(str(reference_path()))
    guard = SmoothGuardRunnable(model, SmoothGuardConfig.reference())

    print("question:", picture.question)
    print("attacker wants:", picture.target)
    print("unguarded:", model.invoke([message]).text)
    answer = guard.invoke([message])
    print("guarded:", answer.text)
    record = answer.response_metadata["smoothguard"]
    print("verdict:", record["verdict"], f"(agreement {record['agreement']:.2f}, {record['num_calls']} calls)")


if __name__ == "__main__":
    main()
