"""A chat model that passes for the one inside of it, in what others ask of a model beside answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel, ModelProfile
from langchain_core.messages import BaseMessage
from pydantic import Field

if TYPE_CHECKING:
    from langchain_core.language_models.base import LangSmithParams


class AroundChatModel(BaseChatModel):
    """Base class of a chat model around another: its name, profile, tokens and tracing are the other's."""

    # Not named `model`: agents take a field of that name for the model's name.
    inner: Any = Field(exclude=True)

    @property
    def model_name(self) -> str | None:
        """Name of the inner model, by which agents tell what it can do."""
        name = getattr(self.inner, "model_name", None) or getattr(self.inner, "model", None)
        return name if isinstance(name, str) else None

    def get_token_ids(self, text: str) -> list[int]:
        """Return the inner model's tokens of a text."""
        return self.inner.get_token_ids(text)  # type: ignore[no-any-return]

    def get_num_tokens(self, text: str) -> int:
        """Return how many tokens a text is to the inner model."""
        return self.inner.get_num_tokens(text)  # type: ignore[no-any-return]

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> int:
        """Return how many tokens messages are to the inner model, one sample's worth."""
        return self.inner.get_num_tokens_from_messages(messages, *args, **kwargs)  # type: ignore[no-any-return]

    def _resolve_model_profile(self) -> ModelProfile | None:
        profile: ModelProfile | None = self.inner.profile
        return profile

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params: LangSmithParams = self.inner._get_ls_params(stop=stop, **kwargs)
        return params

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"inner": self.inner._dict_for_compat()}
