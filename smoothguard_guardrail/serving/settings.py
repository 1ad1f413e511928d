"""Limits and policies of a server. `SmoothGuardConfig` configures the guard itself."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from smoothguard_guardrail.config import REFUSAL_TEXT
from smoothguard_guardrail.observability.prometheus import DEFAULT_CLIENT

_CLIENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class ServerSettings(BaseModel):
    """Limits and policies of one server. Clients cannot change them.

    Example:
        >>> ServerSettings(max_concurrency=4).request_timeout
        120.0
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    api_keys: dict[str, tuple[SecretStr, ...]] = {}
    """The keys of every client, by the name that its figures have in metrics and in the safety log; keys without names
    are those of `default`. Each opens every route; `/healthz` and `/readyz` need none. Empty: no key is required."""
    allowed_hosts: tuple[str, ...] | None = None
    """Allowed host names in requests; None: any. For a server on loopback without a key this stops web pages in a
    local browser from reaching it by DNS rebinding."""
    max_body_bytes: int = Field(default=32 * 2**20, gt=0)
    """Largest request body in bytes; more is a 413."""
    max_concurrency: int = Field(default=16, ge=1)
    """Largest number of concurrent requests to models; one more is a 429."""
    retry_after: int = Field(default=1, ge=1)
    """Seconds after which clients should retry a 429."""
    request_timeout: float = Field(default=120.0, gt=0)
    """Time limit of one request in seconds, upload included; more is a 504."""
    header_timeout: float = Field(default=10.0, gt=0)
    """Seconds in which a client must send the headers of a request; more closes the connection."""
    body_timeout: float = Field(default=60.0, gt=0)
    """Seconds in which a client must send the body of a request; more is a 408, and closes the connection."""
    max_connections_per_client: int = Field(default=100, ge=1)
    """Largest number of open connections from one IPv4 address or one IPv6 network of 64 bits. One more ends the oldest
    that has not sent the headers of a request, or is itself a 429.
    Behind a proxy all clients have the proxy's address: set it as high as the proxy's own limit."""
    max_batch: int = Field(default=32, ge=1)
    """Largest number of inputs in one LangServe batch."""
    batch_concurrency: int = Field(default=4, ge=1)
    """Largest number of concurrent inputs of one LangServe batch."""
    on_failure: Literal["error", "refuse"] = "error"
    """What LangServe routes return if the guard or its model fails: an error status, or `refusal_text` if the chain's
    output is text or a message."""
    refusal_text: str = REFUSAL_TEXT
    """The answer with `on_failure="refuse"`."""
    litellm_policy: Literal["perturb", "vote"] = "perturb"
    """What LiteLLM's model gets: `perturb`, one noisy copy of every medium; `vote`, the same, if the guard's own model
    answers the request in a vote first."""
    record: Literal["verdict", "full"] = "verdict"
    """What clients see of a guarded call: its verdict and action, or the whole record. The agreement in the whole
    record is a score that attackers by trial and error can climb: only for clients that you trust."""

    @field_validator("api_keys", mode="before")
    @classmethod
    def _by_client(cls, keys: Any) -> Any:
        named = keys if isinstance(keys, dict) else {DEFAULT_CLIENT: keys} if keys else {}
        return {name: (key,) if isinstance(key, str | SecretStr) else key for name, key in named.items()}

    @field_validator("api_keys")
    @classmethod
    def _check_keys(cls, keys: dict[str, tuple[SecretStr, ...]]) -> dict[str, tuple[SecretStr, ...]]:
        values = [key.get_secret_value() for its in keys.values() for key in its]
        if not all(value.strip() for value in values):
            raise ValueError("API keys must not be empty, got an empty one: remove it or set a value")
        if len(set(values)) < len(values):
            raise ValueError("each API key must belong to one client, got one twice")
        if not all(_CLIENT.fullmatch(name) for name in keys):
            raise ValueError("a client must be named with at most 64 letters, digits and ._- only")
        return keys
