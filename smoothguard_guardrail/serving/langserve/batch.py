"""LangServe's `batch` in which an input that fails fails alone."""

from __future__ import annotations

import asyncio
import json
import logging
from contextvars import ContextVar
from typing import Any
from uuid import uuid4

from fastapi import Request, Response
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.runnables.config import get_config_list
from langserve import APIHandler
from pydantic import ValidationError

from smoothguard_guardrail.serving.errors import ApiError, describe_problems, to_api_error
from smoothguard_guardrail.serving.json_text import SafeJSONResponse
from smoothguard_guardrail.serving.read_json import read_json

_logger = logging.getLogger(__name__)

_failed_inputs: ContextVar[dict[int, ApiError]] = ContextVar("failed_inputs")
"""Errors of the batch that is being answered, by position."""


class BatchRunnable(RunnableLambda[Any, Any]):
    """Runs a batch in which an input that fails fails alone; nothing runs after the response."""

    async def abatch(self, inputs: list[Any], config: Any = None, **kwargs: Any) -> list[Any]:
        """Return the outputs of the inputs that did not fail; `_failed_inputs` gets the others' errors.

        Raises:
            Exception: The first failure, if all failed.
        """
        configs = get_config_list(config, len(inputs))
        slots = asyncio.Semaphore((configs[0].get("max_concurrency") or len(inputs)) if configs else 1)

        async def answer(given: Any, its_config: RunnableConfig) -> Any:
            async with slots:
                return await self.ainvoke(given, its_config)

        tasks = [asyncio.ensure_future(answer(*pair)) for pair in zip(inputs, configs, strict=True)]
        try:
            outputs = await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            for task in tasks:
                task.cancel()
        failures = [output for output in outputs if isinstance(output, BaseException)]
        for failure in failures:
            if len(failures) == len(outputs) or not isinstance(failure, Exception):
                raise failure
        for index, output in enumerate(outputs):
            if isinstance(output, Exception):
                failed = _failed_inputs.get()[index] = to_api_error(output)
                if failed.status >= 500:
                    _logger.error("%s, input %d of a batch: %s", self.get_name(), index, failed.code, exc_info=output)
        return [output for output in outputs if not isinstance(output, BaseException)]


async def answer_batch(request: Request, handler: APIHandler, served: Runnable[Any, Any], limit: int) -> Response:
    """Answer a batch.

    Args:
        request: The client's request.
        handler: LangServe's handler of the chain.
        served: The chain, as a `BatchRunnable` with types.
        limit: Largest number of inputs.

    Raises:
        ApiError: If the body is not a batch, or all its inputs are invalid.
        Exception: The first failure, if all inputs failed.
    """
    invalid = _take_invalid(await read_json(request), served, limit)
    failed: dict[int, ApiError] = {}
    token = _failed_inputs.set(failed)
    try:
        answer: Response = await handler.batch(request)
    finally:
        _failed_inputs.reset(token)
    return _with_errors(answer, invalid, failed) if invalid or failed else answer


def _take_invalid(body: Any, served: Runnable[Any, Any], limit: int) -> dict[int, ApiError]:
    """Remove the invalid inputs from a batch, and return their errors by position.

    Raises:
        ApiError: If the body is not a batch, or all its inputs are invalid.
    """
    inputs = body.get("inputs") if isinstance(body, dict) else None
    if not isinstance(inputs, list):
        raise ApiError(422, "invalid_request", "inputs must be a list", param="inputs")
    if len(inputs) > limit:
        raise ApiError(
            413, "batch_too_large", f"inputs must have at most {limit} items, got {len(inputs)}", param="inputs"
        )
    schema: Any = served.input_schema
    invalid = {}
    for index, each in enumerate(inputs):
        try:
            schema.model_validate(each)
        except ValidationError as error:
            invalid[index] = ApiError(422, "invalid_request", describe_problems(error.errors()), param="inputs")
    if inputs and len(invalid) == len(inputs):
        raise invalid[0]
    body["inputs"] = [each for index, each in enumerate(inputs) if index not in invalid]
    body["config"] = {}  # clients configure nothing, and one per input would no longer fit
    return invalid


def _with_errors(answer: Response, invalid: dict[int, ApiError], failed: dict[int, ApiError]) -> Response:
    """Return a batch's response with the errors of inputs in the place of their outputs.

    Args:
        answer: LangServe's response to the inputs that are not invalid, with the outputs of those that did not fail.
        invalid: Errors by position in the batch.
        failed: Errors by position in the batch without the invalid inputs.
    """
    body = json.loads(bytes(answer.body))
    for index, error in sorted(failed.items()):  # LangServe would check an error against the type of an output
        body["output"].insert(index, error.body())
    for index, error in sorted(invalid.items()):
        run = str(uuid4())
        body["output"].insert(index, error.body())
        body["metadata"]["run_ids"].insert(index, run)
        body["metadata"]["responses"].insert(index, {"run_id": run, "feedback_tokens": []})
    return SafeJSONResponse(body)
