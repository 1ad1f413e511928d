"""A guardrail class for LiteLLM's proxy, which asks a SmoothGuard server before every chat completion.

LiteLLM's generic guardrail API reaches the same server without any code of ours in the proxy, but LiteLLM does not call
it for a request without text, and does not show it all that a client sends. This class sees the whole request. It needs
nothing but LiteLLM: `pip install --no-deps smoothguard-guardrail` is enough in the proxy's environment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from smoothguard_guardrail.errors import ConfigurationError, MissingDependencyError

if TYPE_CHECKING:

    class CustomGuardrail:
        """What this module uses of LiteLLM's class."""

        guardrail_name: str | None
        run_in_parallel: bool
        scan_raw_request: bool

        def __init__(self, **kwargs: Any) -> None: ...

    class GuardrailEventHooks:
        """What this module uses of LiteLLM's names for modes."""

        pre_call: str

    class AsyncClient:
        """What this module uses of httpx's client."""

        def __init__(self, **kwargs: Any) -> None: ...

        async def post(self, url: str, *, json: Any) -> Any:
            """Send a request."""

    class GuardrailRaisedException(Exception):  # noqa: N818  LiteLLM's name
        """What LiteLLM raises for a blocked request."""

        def __init__(self, **kwargs: Any) -> None: ...

    version: str
else:
    try:
        from httpx import AsyncClient
        from litellm._version import version
        from litellm.exceptions import GuardrailRaisedException
        from litellm.integrations.custom_guardrail import CustomGuardrail
        from litellm.types.guardrails import GuardrailEventHooks
    except ImportError as _error:
        raise MissingDependencyError(_error.name or "litellm", "litellm") from _error

_PATH = "/beta/litellm_basic_guardrail_api"
_CHAT = ("completion", "acompletion")
_INTERNAL = {
    *("messages", "metadata", "litellm_metadata", "proxy_server_request", "secret_fields", "litellm_logging_obj"),
    *("litellm_call_id", "litellm_trace_id", "guardrails", "guardrail_to_apply"),
}
"""Keys of a request that LiteLLM writes itself, or that no model sees."""


class SmoothGuardrail(CustomGuardrail):
    """Asks a SmoothGuard server about every chat completion before LiteLLM's model is called.

    The request goes on with noisy copies of its media, or is blocked: what cannot be guarded, what the server's policy
    `vote` refuses, and every failure. Other endpoints of LiteLLM are blocked unless you list their call types.

    Args:
        api_base: Base URL of the SmoothGuard server.
        api_key: Its API key.
        timeout: Seconds that the server may take.
        unguarded_call_types: Call types of LiteLLM that may pass unguarded, such as `aembedding`.
        **kwargs: Those of LiteLLM's guardrails.

    Raises:
        ValueError: The mode is not `pre_call`, the only one in which the model gets what this class returns.
        ConfigurationError: For the same reason, if `run_in_parallel` or `scan_raw_request` is set.

    Example:
        In LiteLLM's `config.yaml`:

            guardrails:
              - guardrail_name: smoothguard
                litellm_params:
                  guardrail: smoothguard_guardrail.integrations.litellm.SmoothGuardrail
                  mode: pre_call
                  default_on: true
                  api_base: http://127.0.0.1:8000
    """

    def __init__(
        self,
        *,
        api_base: str,
        api_key: str | None = None,
        timeout: float | None = None,
        unguarded_call_types: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(timeout=timeout, supported_event_hooks=[GuardrailEventHooks.pre_call], **kwargs)
        if self.run_in_parallel or self.scan_raw_request:
            raise ConfigurationError(
                "run_in_parallel and scan_raw_request must be false: with them the model gets the original media"
            )
        headers = {"x-api-key": api_key} if api_key else {}
        self._url = api_base.rstrip("/").removesuffix(_PATH) + _PATH
        self._client = AsyncClient(headers=headers, timeout=timeout or 120.0, trust_env=False)
        self._unguarded_call_types = frozenset(unguarded_call_types)

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> dict[str, Any]:
        """Return the request with noisy copies of its media.

        Raises:
            GuardrailRaisedException: The request is blocked.
        """
        if call_type in self._unguarded_call_types:
            return data
        if call_type not in _CHAT:
            raise self._block(f"calls of type {call_type} are not guarded; send a chat completion")
        try:
            response = await self._client.post(self._url, json=_body(data))
            response.raise_for_status()
            answer = response.json()
            action = answer["action"]
            messages = answer["structured_messages"] if action == "GUARDRAIL_INTERVENED" else data.get("messages")
        except Exception as error:
            raise self._block("the guard cannot be asked; try again", blocked_content=False) from error
        if action not in ("NONE", "GUARDRAIL_INTERVENED"):
            raise self._block(answer.get("blocked_reason") or "the guard blocked the request")
        return data | {"messages": messages}

    def _block(self, reason: str, *, blocked_content: bool = True) -> GuardrailRaisedException:
        return GuardrailRaisedException(
            guardrail_name=self.guardrail_name or "smoothguard",
            message=reason,
            should_wrap_with_default_message=False,
            blocked_content=blocked_content,
        )


def _body(data: dict[str, Any]) -> dict[str, Any]:
    """Return the question to the server: the messages, and all else that a model may see."""
    others = {name: value for name, value in data.items() if name not in _INTERNAL}
    return {
        "input_type": "request",
        "litellm_version": version,
        "model": data.get("model"),
        "structured_messages": data.get("messages"),
        "additional_provider_specific_params": others,
    }
