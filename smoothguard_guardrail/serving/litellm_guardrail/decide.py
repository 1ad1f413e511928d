"""What the guard says to a request that LiteLLM sends to the model itself.

The guard does not make that call, so it cannot vote on it. Two policies:

- `perturb`: the model gets one noisy copy of every medium. Nothing is asked and nothing is voted on.
- `vote`: the guard first asks its own model, with a vote. If that refuses or abstains the request is blocked; else the
  other model gets one noisy copy.

What cannot be guarded is blocked under both.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

from langchain_core.messages import HumanMessage

from smoothguard_guardrail.serving.errors import ABSTAINED, to_api_error
from smoothguard_guardrail.serving.litellm_guardrail.request import GuardrailRequest, texts_in, to_message, to_row
from smoothguard_guardrail.serving.openai_chat.messages import request_messages

if TYPE_CHECKING:
    from smoothguard_guardrail.serving.served_guard import ServedGuard

_logger = logging.getLogger(__name__)

ROUTE = "/beta/litellm_basic_guardrail_api"
_OLDEST_VERSION = (1, 106)
"""Older ones may ignore the messages of an answer, and so send the original media on."""


async def decide(served: ServedGuard, request: GuardrailRequest) -> dict[str, Any]:
    """Return the answer to LiteLLM.

    Args:
        served: Its guard's configuration says how media are perturbed and what cannot be guarded; `vote` asks its
            model.
        request: What LiteLLM shows of the client's request.

    A failure blocks the request, because LiteLLM can be configured to go on after an HTTP error.
    """
    if request.input_type == "response":
        return {"action": "NONE"}
    try:
        if not _can_rewrite(request.litellm_version):
            return _blocked(f"SmoothGuard needs LiteLLM {'.'.join(map(str, _OLDEST_VERSION))} or later")
        return await _answer(served, request)
    except Exception as error:
        failure = to_api_error(error)
        if failure.status >= 500:
            _logger.error("%s: %s", ROUTE, failure.code, exc_info=error)
        return _blocked(failure.message)


async def _answer(served: ServedGuard, request: GuardrailRequest) -> dict[str, Any]:
    others = await served.guard.aperturb([HumanMessage("", additional_kwargs=request.other_parts)])
    if others.media:
        return _blocked("media are guarded in messages only: remove them from the other parts of the request")
    rows = request.structured_messages or []
    if any(row.get("content") == [] for row in rows):  # LiteLLM found a part that it does not know
        return _blocked(
            "LiteLLM does not show all parts of a message: send text, image_url, input_audio and file parts"
        )
    perturbed = await served.guard.aperturb([to_message(row) for row in rows])
    if not {*(request.images or ())} <= {*texts_in(rows)}:
        return _blocked("LiteLLM does not show where the images stand: send them as a chat completion")
    if not perturbed.media:
        return {"action": "NONE"}
    if served.settings.litellm_policy == "vote":
        answer = await served.answer(request_messages(rows), route=ROUTE)
        if answer.result.action == "refused":
            return _blocked(ABSTAINED if answer.is_refusal else "the guard's model refuses to answer")
    changed = [to_row(message, row) for message, row in zip(perturbed.messages, rows, strict=True)]
    return {
        "action": "GUARDRAIL_INTERVENED",
        "structured_messages": changed,
        # LiteLLM reads texts only where it cannot write messages back; their wrong number then makes it fail instead of
        # sending the originals.
        "texts": [*(request.texts or []), ""],
    }


def _can_rewrite(version: str | None) -> bool:
    numbers = re.match(r"(\d+)\.(\d+)", version or "")
    return numbers is not None and tuple(map(int, numbers.groups())) >= _OLDEST_VERSION


def _blocked(reason: str) -> dict[str, Any]:
    return {"action": "BLOCKED", "blocked_reason": reason}
