"""The clients of a server: each API key belongs to one, by a name that the server chooses."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from contextvars import ContextVar

from pydantic import SecretStr

from smoothguard_guardrail.observability.prometheus import DEFAULT_CLIENT
from smoothguard_guardrail.observability.safety_log.filters import CLIENT_KEY

_current: ContextVar[str] = ContextVar("client", default=DEFAULT_CLIENT)


class Clients:
    """Finds the client of a key.

    Args:
        keys: The keys of every client.
    """

    def __init__(self, keys: Mapping[str, Sequence[SecretStr]]) -> None:
        self._keys = [(key.get_secret_value().encode(), name) for name, its in keys.items() for key in its]

    def find(self, key: bytes) -> str | None:
        """Return the name of the client with a key; None if a key is required and this is none of them."""
        if not self._keys:
            return DEFAULT_CLIENT
        names = [name for known, name in self._keys if hmac.compare_digest(key, known)]
        return names[0] if names else None


def enter_client(name: str) -> None:
    """Name the client of the request that this task answers."""
    _current.set(name)


def client_metadata() -> dict[str, str]:
    """Return the client of the request that is being answered, as metadata of a guarded call."""
    return {CLIENT_KEY: _current.get()}
