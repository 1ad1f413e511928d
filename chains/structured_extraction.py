"""Objects from images: prompt | guard | parser, with a vote on what was extracted.

`python -m chains.structured_extraction [IMAGE]` runs it offline on the shipped reference model.
"""

from __future__ import annotations

import base64
import mimetypes
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import PydanticOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda
from pydantic import BaseModel

from smoothguard_guardrail import SmoothGuardChatModel, SmoothGuardConfig, SmoothGuardRunnable

INSTRUCTION = "Describe the picture."

ObjectT = TypeVar("ObjectT", bound=BaseModel)


class Shape(BaseModel):
    """A coloured shape and its position."""

    colour: str
    shape: str
    position: str


class ImageContent(BaseModel):
    """The content of an image of the reference model's world."""

    shapes: list[Shape]
    marks: list[str]


def build_chain(
    model: BaseChatModel | str,
    schema: type[ObjectT],
    config: SmoothGuardConfig | None = None,
    *,
    instruction: str = INSTRUCTION,
) -> Runnable[dict[str, str], ObjectT]:
    """Compose a chain from `{"image", "mime_type"}` to an object, for a model with structured output.

    Samples with the same object form one group, and one sample's object is returned unchanged. A refusal is not an
    object: where the guard would refuse because the samples disagree, the chain raises an `AbstainedError`.

    Args:
        model: A multimodal chat model with tools or structured output, or a string for `init_chat_model`.
        schema: What to extract.
        config: The guard's configuration.
        instruction: The instruction next to the image.

    Example:
        >>> chain = build_chain("openai:gpt-4o", ImageContent)  # doctest: +SKIP
        >>> chain.invoke(chain_input(Path("shapes.png"))).shapes[0].colour  # doctest: +SKIP
        'red'
    """
    extractor = SmoothGuardChatModel(model, config=_raising(config)).with_structured_output(schema)
    chain: Runnable[dict[str, str], ObjectT] = _prompt(instruction) | extractor
    return chain


def build_chain_from_text(
    model: Runnable[Any, Any],
    schema: type[ObjectT],
    parse: Callable[[str], ObjectT],
    config: SmoothGuardConfig | None = None,
    *,
    instruction: str = INSTRUCTION,
) -> Runnable[dict[str, str], ObjectT]:
    """Compose the same chain for a model that answers in sentences.

    Every sample's answer is parsed before the vote, so the vote counts objects, not sentences: two descriptions that
    differ in one colour are similar sentences but different objects. A sample that cannot be parsed counts as failed;
    if too many fail, the chain raises `QuorumError`.

    Args:
        model: A multimodal chat model.
        schema: What to extract.
        parse: Makes an object from an answer's text; raises ValueError if that is impossible.
        config: The guard's configuration.
        instruction: The instruction next to the image.

    Example:
        >>> from smoothguard_guardrail.testing import ScriptedChatModel
        >>> model = ScriptedChatModel(script=["A red circle at the centre."])
        >>> chain = build_chain_from_text(model, ImageContent, parse_description)
        >>> chain.input_schema.model_json_schema()["required"]
        ['image', 'mime_type']
    """

    def as_json(answer: AIMessage) -> AIMessage:
        return answer.model_copy(update={"content": parse(answer.text).model_dump_json()})

    guard = SmoothGuardRunnable(model | RunnableLambda(as_json), config=_raising(config))
    chain: Runnable[dict[str, str], ObjectT] = (
        _prompt(instruction) | guard | PydanticOutputParser(pydantic_object=schema)
    )
    return chain


def _raising(config: SmoothGuardConfig | None) -> SmoothGuardConfig:
    """Return a configuration that never puts a refusal in the place of an object."""
    config = SmoothGuardConfig() if config is None else config
    return config.override(vote={"on_abstain": "raise"}) if config.vote.on_abstain == "refuse" else config


_SHAPE = re.compile(r"\ban? (\w+) (\w+) at the ((?:top|middle|bottom) (?:left|centre|right)|centre)")
_MARK = re.compile(r"\ba (badge|key|frame|stop sign)\b")


def parse_description(text: str) -> ImageContent:
    """Parse the reference model's description of an image.

    Raises:
        ValueError: If the text describes no shape.

    Example:
        >>> parse_description("A red circle at the top left, with a key.").marks
        ['key']
    """
    shown, _, marks = text.lower().partition(", with ")
    shapes = [Shape(colour=colour, shape=shape, position=place) for colour, shape, place in _SHAPE.findall(shown)]
    if not shapes:
        raise ValueError(f"expected a description with at least one shape, got: {text}")
    return ImageContent(shapes=shapes, marks=_MARK.findall(marks))


def chain_input(path: Path) -> dict[str, str]:
    """Return the chain's input for an image in a file."""
    image = base64.b64encode(path.read_bytes()).decode()
    return {"image": image, "mime_type": mimetypes.guess_type(path.name)[0] or "image/png"}


def _prompt(instruction: str) -> ChatPromptTemplate:
    image = {"type": "image", "base64": "{image}", "mime_type": "{mime_type}"}
    prompt = ChatPromptTemplate([("human", [image, {"type": "text", "text": "{instruction}"}])])
    return prompt.partial(instruction=instruction)


def main(arguments: list[str]) -> None:
    """Extract what an image shows with the shipped model, by default the first clean image of the demonstration."""
    from smoothguard_guardrail.models import ChatTransformersMultimodal
    from smoothguard_guardrail.models.reference import reference_path
    from smoothguard_guardrail.models.reference.demo import DEMO_DIR, load_demo

    clean = next(picture for picture in load_demo().pictures if not picture.is_attack)
    image = Path(arguments[0]) if arguments else DEMO_DIR / clean.file
    model = ChatTransformersMultimodal.from_pretrained(str(reference_path()))
    chain = build_chain_from_text(model, ImageContent, parse_description, SmoothGuardConfig.reference(seed=0))
    print(chain.invoke(chain_input(image)).model_dump_json(indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
