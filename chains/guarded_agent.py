"""An agent that looks at images with a tool; every model call is guarded.

`python -m chains.guarded_agent [NAME QUESTION]` runs it offline on the demo images. The reference model looks at
them; it cannot call tools, so a rule opens the image (`RuleThenViewer`).
"""

from __future__ import annotations

import base64
import mimetypes
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool, tool

from smoothguard_guardrail import SmoothGuardConfig, SmoothGuardMiddleware

SYSTEM = "Answer questions about the images of an album. Open an image by its name to see it."


def build_agent(
    model: BaseChatModel | str, tools: Sequence[BaseTool], config: SmoothGuardConfig | None = None
) -> Runnable[Any, Any]:
    """Return an agent, a LangGraph graph, whose model never sees an unperturbed image.

    The images that its tools return are guarded like those in questions. The record of its last model call is in
    the state under `smoothguard`.

    Args:
        model: A multimodal chat model that calls tools, or a string for `init_chat_model`.
        tools: Its tools, such as `image_tool`.
        config: The guard's configuration.

    Example:
        >>> from smoothguard_guardrail.testing import ScriptedChatModel
        >>> agent = build_agent(ScriptedChatModel(script=["Hello."]), [])
        >>> agent.invoke({"messages": [("human", "Hi!")]})["smoothguard"]["verdict"]
        'skipped'
    """
    agent: Runnable[Any, Any] = create_agent(
        model, list(tools), system_prompt=SYSTEM, middleware=[SmoothGuardMiddleware(config)]
    )
    return agent


def image_tool(album: Mapping[str, Path]) -> BaseTool:
    """Return a tool that shows an image by name.

    Example:
        >>> image_tool({}).invoke({"name": "cat"})
        [{'type': 'text', 'text': "There is no image called 'cat'."}]
    """

    @tool
    def open_image(name: str) -> list[dict[str, Any]]:
        """Show the image with this name."""
        if name not in album:
            return [{"type": "text", "text": f"There is no image called {name!r}."}]
        image = base64.b64encode(album[name].read_bytes()).decode()
        mime_type = mimetypes.guess_type(album[name].name)[0] or "image/png"
        return [{"type": "image", "base64": image, "mime_type": mime_type}]

    return open_image


class RuleThenViewer(BaseChatModel):
    """Replaces a model that calls tools: a rule calls the tool, a real model looks at the image.

    A question reads `NAME: QUESTION`. The rule opens the image with that name. Once the tool has returned it,
    `viewer` answers the question about it.

    Example:
        >>> from smoothguard_guardrail.testing import ScriptedChatModel
        >>> model = RuleThenViewer(viewer=ScriptedChatModel(script=["A cat."]))
        >>> model.invoke("cat.png: What is it?").tool_calls[0]["args"]
        {'name': 'cat.png'}
    """

    viewer: BaseChatModel

    @property
    def _llm_type(self) -> str:
        return "rule-then-viewer"

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Return this model: the rule knows its tool."""
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        last_question = max(index for index, message in enumerate(messages) if isinstance(message, HumanMessage))
        name, _, question = messages[last_question].text.partition(": ")
        shown = [message for message in messages[last_question:] if isinstance(message, ToolMessage)]
        if shown:
            content = [block for message in shown for block in message.content]
            answer = self.viewer.invoke([HumanMessage([*content, {"type": "text", "text": question}])], stop=stop)
        else:
            call = {"name": "open_image", "args": {"name": name}, "id": f"open-{last_question}"}
            answer = AIMessage("", tool_calls=[call])
        return ChatResult(generations=[ChatGeneration(message=answer)])


def main(arguments: list[str]) -> None:
    """Ask about a demo image, by default the first one, which is adversarial."""
    from smoothguard_guardrail.models import ChatTransformersMultimodal
    from smoothguard_guardrail.models.reference import reference_path
    from smoothguard_guardrail.models.reference.demo import DEMO_DIR, load_demo

    images = load_demo().pictures
    name, question = arguments if len(arguments) == 2 else (images[0].name, images[0].question)
    model = RuleThenViewer(viewer=ChatTransformersMultimodal.from_pretrained(str(reference_path())))
    album = {image.name: DEMO_DIR / image.file for image in images}
    agent = build_agent(model, [image_tool(album)], SmoothGuardConfig.reference())
    state = agent.invoke({"messages": [("human", f"{name}: {question}")]})
    for message in state["messages"]:
        calls = [f"{call['name']}({call['args']})" for call in getattr(message, "tool_calls", [])]
        print(f"{message.type}: {message.text or ', '.join(calls) or '(an image)'}")
    record = state["smoothguard"]
    print(f"verdict: {record['verdict']} (agreement {record['agreement']:.2f}, {record['num_calls']} calls)")


if __name__ == "__main__":
    main(sys.argv[1:])
