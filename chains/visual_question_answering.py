"""Questions about images: prompt | guard | parser.

`python -m chains.visual_question_answering [IMAGE QUESTION]` runs it offline on the shipped reference model.
"""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from smoothguard_guardrail import SmoothGuardConfig, SmoothGuardRunnable

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable

SYSTEM = "Answer questions about pictures."


def build_chain(
    model: Runnable[Any, Any] | str, config: SmoothGuardConfig | None = None
) -> Runnable[dict[str, str], str]:
    """Compose a chain from `{"image", "mime_type", "question"}` to the elected answer's text.

    Args:
        model: A multimodal chat model, or a string for `init_chat_model`.
        config: The guard's configuration.

    Example:
        >>> from smoothguard_guardrail.testing import ScriptedChatModel
        >>> build_chain(ScriptedChatModel(script=["A cat."])).input_schema.model_json_schema()["required"]
        ['image', 'mime_type', 'question']
    """
    image = {"type": "image", "base64": "{image}", "mime_type": "{mime_type}"}
    prompt = ChatPromptTemplate([("system", SYSTEM), ("human", [image, {"type": "text", "text": "{question}"}])])
    chain: Runnable[dict[str, str], str] = prompt | SmoothGuardRunnable(model, config=config) | StrOutputParser()
    return chain


def chain_input(path: Path, question: str, *, mime_type: str = "image/png") -> dict[str, str]:
    """Return the chain's input for an image in a file."""
    image = base64.b64encode(path.read_bytes()).decode()
    return {"image": image, "mime_type": mime_type, "question": question}


def main(arguments: list[str]) -> None:
    """Ask the shipped model about an image, by default the first of the demonstration."""
    from smoothguard_guardrail.models import ChatTransformersMultimodal
    from smoothguard_guardrail.models.reference import reference_path
    from smoothguard_guardrail.models.reference.demo import DEMO_DIR, load_demo

    if len(arguments) == 2:
        image, question = Path(arguments[0]), arguments[1]
    else:
        first = load_demo().pictures[0]
        image, question = DEMO_DIR / first.file, first.question
    model = ChatTransformersMultimodal.from_pretrained(str(reference_path()))
    chain = build_chain(model, SmoothGuardConfig.reference())
    print(question)
    print(chain.invoke(chain_input(image, question)))


if __name__ == "__main__":
    main(sys.argv[1:])
