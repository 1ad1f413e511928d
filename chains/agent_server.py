"""A guarded agent for LangGraph's Agent Server; `langgraph.json` beside this file names it.

`langgraph dev`, run in this folder, serves it: LangGraph's own protocol, threads, and a studio. The model is
`SMOOTHGUARD_MODEL`, a string for `init_chat_model`; without it, the reference model answers about images offline.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from chains.guarded_agent import build_agent
from smoothguard_guardrail import SmoothGuardConfig
from smoothguard_guardrail.models import ChatTransformersMultimodal
from smoothguard_guardrail.models.reference import reference_path

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable


def build_graph() -> Runnable[Any, Any]:
    """Return the agent. The server adds its own checkpointer.

    Nothing in a request can change the guard: the graph takes no configuration.
    """
    if name := os.environ.get("SMOOTHGUARD_MODEL"):
        return build_agent(name, [])
    model = ChatTransformersMultimodal.from_pretrained(str(reference_path()))
    return build_agent(model, [], SmoothGuardConfig.reference())


graph = build_graph()
"""Built when the server imports this module, because loading a model in a run would block its event loop."""
