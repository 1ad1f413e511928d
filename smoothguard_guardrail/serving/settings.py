"""What a server allows and how it answers; everything about the guard itself is `SmoothGuardConfig`'s."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from smoothguard_guardrail.config import REFUSAL_TEXT


class ServerSettings(BaseModel):
    """Limits and policies of one server. Clients can change none of them.

    Example:
        >>> ServerSettings(max_concurrency=4).request_timeout
        120.0
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    api_keys: tuple[SecretStr, ...] = ()
    """Any of them opens every route but `/healthz` and `/readyz`; none: no key is asked for."""
    allowed_hosts: tuple[str, ...] | None = None
    """Host names that requests may be addressed to; None: any. Without a key it keeps web pages, which a browser on
    this machine may have open, from reaching a server on loopback under a name of theirs (DNS rebinding)."""
    max_body_bytes: int = Field(default=32 * 2**20, gt=0)
    """Bytes of one request's body; more is a 413."""
    max_concurrency: int = Field(default=16, ge=1)
    """Requests to models at once; one more is a 429."""
    retry_after: int = Field(default=1, ge=1)
    """Seconds after which a 429 asks clients to come again."""
    request_timeout: float = Field(default=120.0, gt=0)
    """Seconds for one request, its body included; more is a 504."""
    max_batch: int = Field(default=32, ge=1)
    """Inputs of one LangServe batch."""
    batch_concurrency: int = Field(default=4, ge=1)
    """Inputs of one LangServe batch at once."""
    on_failure: Literal["error", "refuse"] = "error"
    """What LangServe routes answer when the guard or its model fails: an error with its status, or `refusal_text`
    where the chain's output is text or a message."""
    refusal_text: str = REFUSAL_TEXT
    """Answer of `on_failure="refuse"`."""
    record: Literal["full", "verdict"] = "full"
    """What clients learn: the record of the guarded call, or its verdict alone. Who attacks by trial and error
    learns less from the latter."""

    @field_validator("api_keys")
    @classmethod
    def _no_empty_key(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if not all(key.get_secret_value().strip() for key in keys):
            raise ValueError("an API key is empty")
        return keys
