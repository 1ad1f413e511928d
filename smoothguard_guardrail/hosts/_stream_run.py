"""The run of a stream, which `SmoothGuardChatModel` needs to stream its single chunk."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler, CallbackManager, Callbacks
from langchain_core.callbacks.manager import BaseRunManager
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config


class StreamRun(BaseCallbackHandler):
    """Remembers the run of a stream: `BaseChatModel.stream` starts one but does not pass its manager to `_stream`.

    Args:
        config: The configuration that the stream is called with.
        local: The model's own callbacks.
    """

    run_inline = True  # so that under asyncio, too, the run is known before the stream begins

    def __init__(self, config: RunnableConfig | None, local: Callbacks) -> None:
        config = ensure_config(config)
        self._manager = CallbackManager.configure(
            config.get("callbacks"), local, False, config.get("tags"), None, config.get("metadata")
        )
        with_this = self._manager.copy()
        with_this.add_handler(self, inherit=False)
        self.config: RunnableConfig = {**config, "callbacks": with_this}
        """The configuration, with this handler added."""
        self.run: BaseRunManager | None = None
        """The run, once it has started."""

    def on_chat_model_start(
        self,
        *_: Any,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **__: Any,
    ) -> None:
        """Remember the run."""
        self.run = BaseRunManager(
            run_id=run_id,
            parent_run_id=parent_run_id,
            handlers=self._manager.handlers,
            inheritable_handlers=self._manager.inheritable_handlers,
            tags=tags,
            inheritable_tags=self._manager.inheritable_tags,
            metadata=metadata,
            inheritable_metadata=self._manager.inheritable_metadata,
        )


current_stream_run: ContextVar[StreamRun | None] = ContextVar("smoothguard_stream", default=None)


def as_chunk(message: AIMessage) -> AIMessageChunk:
    """Return a message as the only chunk of its stream."""
    fields = {name: getattr(message, name) for name in AIMessage.model_fields if name != "type"}
    return AIMessageChunk(**fields, chunk_position="last")
