"""A chat model that answers for its inner model whatever others ask of a model besides answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel, ModelProfile
from langchain_core.messages import BaseMessage
from pydantic import Field

from smoothguard_guardrail._langchain import private_api

if TYPE_CHECKING:
    from langchain_core.language_models.base import LangSmithParams


class ChatModelProxy(BaseChatModel):
    """Base class of a chat model that wraps another: name, profile, token counts and tracing are the inner model's."""

    # Not called `model`: agents read a field of that name as the model's name.
    inner: Any = Field(exclude=True, frozen=True)

    @property
    def model_name(self) -> str | None:
        """Name of the inner model, from which agents infer what it supports."""
        name = getattr(self.inner, "model_name", None) or getattr(self.inner, "model", None)
        return name if isinstance(name, str) else None

    def get_token_ids(self, text: str) -> list[int]:
        """Return the inner model's tokens of a text."""
        return self.inner.get_token_ids(text)  # type: ignore[no-any-return]

    def get_num_tokens(self, text: str) -> int:
        """Return how many tokens the inner model makes of a text."""
        return self.inner.get_num_tokens(text)  # type: ignore[no-any-return]

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> int:
        """Return how many tokens the inner model makes of the messages, for one sample."""
        return self.inner.get_num_tokens_from_messages(messages, *args, **kwargs)  # type: ignore[no-any-return]

    def _resolve_model_profile(self) -> ModelProfile | None:
        profile: ModelProfile | None = self.inner.profile
        return profile

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params: LangSmithParams = self.inner._get_ls_params(stop=stop, **kwargs)
        return params

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"inner": private_api.identifying_params(self.inner)}
