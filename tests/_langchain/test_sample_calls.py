"""How samples are asked for: true batches, and what counts as an answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from pydantic import PrivateAttr

from smoothguard_guardrail import AdapterError, QuorumError
from smoothguard_guardrail._langchain.sample_calls import as_answer, sample_model, unwrap
from smoothguard_guardrail.testing import AsyncScriptedChatModel, ScriptedChatModel
from tests.helpers import guarded, image_block, question
from tests.media import corpus

ANTHROPIC = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": corpus.PNG64}}
NESTED = {"type": "tool_result", "tool_use_id": "t", "content": [ANTHROPIC]}
AUDIO = {"type": "audio", "base64": corpus.WAV64, "mime_type": "audio/wav"}


class BatchedModel(ScriptedChatModel):
    """Answers many conversations in one call, and takes tensors."""

    accepts_tensors: bool = True

    def image_input_size(self, height: int, width: int) -> tuple[int, int]:
        return 32, 32

    _batches: list[tuple[list[list[BaseMessage]], dict[str, Any]]] = PrivateAttr(default_factory=list)

    @property
    def batches(self) -> list[tuple[list[list[BaseMessage]], dict[str, Any]]]:
        return self._batches

    def generate_batch(self, batch: Sequence[Sequence[BaseMessage]], **kwargs: Any) -> list[Any]:
        self._batches.append(([list(messages) for messages in batch], kwargs))
        replies = [self.script[index % len(self.script)] for index in range(len(batch))]
        for reply in replies:
            if isinstance(reply, BaseException):
                raise reply
        return [AIMessage(reply) if isinstance(reply, str) else reply for reply in replies]


class Starts(BaseCallbackHandler):
    def __init__(self) -> None:
        self.messages: list[BaseMessage] = []

    def on_chat_model_start(self, serialized: Any, messages: list[list[BaseMessage]], **kwargs: Any) -> None:
        self.messages.extend(messages[0])


async def ask(guard: Any, call: str, *args: Any, **kwargs: Any) -> Any:
    result = getattr(guard, call)(*args, **kwargs)
    return await result if asyncio.iscoroutine(result) else result


def tensors(node: Any) -> list[torch.Tensor]:
    if isinstance(node, torch.Tensor):
        return [node]
    if isinstance(node, BaseMessage):
        return tensors(node.content)
    values = node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
    return [tensor for value in values for tensor in tensors(value)]


CALLS = pytest.mark.parametrize("call", ["guard", "aguard"])


# --- True batches


@CALLS
async def test_a_wave_is_one_call_with_tensors(call: str) -> None:
    model = BatchedModel(script=["cat"])
    result = await ask(guarded(model, num_samples=5), call, question(image_block(), AUDIO))
    assert (result.answer.content, result.num_calls, model.received) == ("cat", 5, [])
    ((batch, kwargs),) = model.batches
    assert (len(batch), kwargs) == (5, {})
    for (message,) in batch:
        picture, recording = tensors(message)
        assert picture.shape == (3, 32, 32)
        assert recording.shape == (1, 1600)
        assert not corpus.arrives_unperturbed([message])
    assert len({tensors(message)[0].sum().item() for (message,) in batch}) == 5


@CALLS
async def test_every_wave_is_a_call_of_its_own(call: str) -> None:
    model = BatchedModel(script=["cat"] * 5 + ["dog"])
    result = await ask(guarded(model, num_samples=10, early_stop="lossless"), call, question())
    assert [len(batch) for batch, _ in model.batches] == [6, 1]
    assert result.agreement == pytest.approx(6 / 7)


@CALLS
async def test_the_clean_copy_is_in_the_batch_without_noise(call: str) -> None:
    model = BatchedModel(script=["cat"])
    await ask(guarded(model, num_samples=3, include_clean=True, sigma=0.1), call, question())
    ((batch, _),) = model.batches
    shown = [messages[0].content[1]["image"] for messages in batch]
    assert [each.shape for each in shown] == [(3, 32, 32)] * 3
    assert [float(each.std()) > 0.05 for each in shown] == [False, True, True]


@CALLS
async def test_text_alone_goes_through_the_batch_too(call: str) -> None:
    model = BatchedModel(script=["Hi."])
    assert (await ask(guarded(model), call, "Hello")).verdict == "skipped"
    assert model.batches == [([[HumanMessage("Hello")]], {})]


@CALLS
async def test_bindings_reach_the_batch(call: str) -> None:
    model, collector = BatchedModel(script=["cat"]), RunCollectorCallbackHandler()
    bound = model.bind(stop=["a"], top_p=1).bind(stop=["b"]).with_config(callbacks=[collector], tags=["mine"])
    await ask(guarded(bound, num_samples=2), call, question(), temperature=0)
    assert model.batches[0][1] == {"stop": ["b"], "top_p": 1, "temperature": 0}
    assert len(collector.traced_runs) == 2
    assert all({"mine", "nostream"} <= set(run.tags) for run in collector.traced_runs)


@CALLS
async def test_each_of_a_batch_is_a_child_run_that_holds_no_tensor(call: str) -> None:
    model, collector = BatchedModel(script=["cat", "dog", "cat"]), RunCollectorCallbackHandler()
    messages = question(image_block(), NESTED)
    starts = Starts()
    await ask(guarded(model, num_samples=3), call, messages, {"callbacks": [collector, starts], "tags": ["t"]})
    assert len(tensors(model.batches[0][0])) == 6
    (run,) = collector.traced_runs
    assert [child.outputs["generations"][0][0]["text"] for child in run.child_runs] == ["cat", "dog", "cat"]
    for index, child in enumerate(run.child_runs):
        assert (child.run_type, child.parent_run_id, child.error) == ("llm", run.id, None)
        assert {f"smoothguard:sample:{index}", "smoothguard:sample", "nostream", "t"} <= set(child.tags)
    assert len(starts.messages) == 3
    for message in starts.messages:
        assert not tensors(message)
        assert str(message.content).count("tensor (3, 32, 32)") == 2


@CALLS
async def test_untraced_batches_have_no_child_runs(call: str) -> None:
    model, collector = BatchedModel(script=["cat"]), RunCollectorCallbackHandler()
    await ask(guarded(model, trace_samples=False), call, question(), {"callbacks": [collector]})
    (run,) = collector.traced_runs
    assert run.child_runs == []


BROKEN = [
    ([MemoryError("too many")], MemoryError),
    ([AIMessage("cat"), {"answer": "cat"}], AdapterError),
    ([None], AdapterError),
]


@CALLS
@pytest.mark.parametrize(("script", "kind"), BROKEN, ids=["raises", "dict", "None"])
async def test_a_batch_that_fails_is_a_failure_of_each(call: str, script: list[Any], kind: type[Exception]) -> None:
    model, collector = BatchedModel(script=script), RunCollectorCallbackHandler()
    with pytest.raises(QuorumError) as caught:
        await ask(guarded(model), call, question(), {"callbacks": [collector]})
    assert [type(failure) for failure in caught.value.failures] == [kind] * 4
    assert len(model.batches) == 1
    (run,) = collector.traced_runs
    assert len(run.child_runs) == 4
    assert all(child.error and child.end_time for child in run.child_runs)


@CALLS
async def test_a_batch_of_the_wrong_length_is_a_failure(call: str) -> None:
    class Short(BatchedModel):
        def generate_batch(self, batch: Any, **kwargs: Any) -> list[Any]:
            return super().generate_batch(batch, **kwargs)[1:]

    with pytest.raises(QuorumError, match="generate_batch answered 3 of 4 requests"):
        await ask(guarded(Short(script=["cat"])), call, question())


async def test_a_batch_does_not_hold_up_the_event_loop() -> None:
    loop, thread = asyncio.get_running_loop(), threading.get_ident()

    class Waiting(BatchedModel):
        def generate_batch(self, batch: Any, **kwargs: Any) -> list[Any]:
            assert threading.get_ident() != thread
            ran = threading.Event()
            loop.call_soon_threadsafe(ran.set)
            assert ran.wait(30)
            return super().generate_batch(batch, **kwargs)

    assert (await guarded(Waiting(script=["cat"])).ainvoke(question())).content == "cat"


def test_an_interrupted_batch_ends_its_runs() -> None:
    model, collector = BatchedModel(script=[KeyboardInterrupt()]), RunCollectorCallbackHandler()
    with pytest.raises(KeyboardInterrupt):
        guarded(model).guard(question(), {"callbacks": [collector]})
    assert all(child.end_time for child in collector.traced_runs[0].child_runs)


def test_texts_are_answers_of_a_batch() -> None:
    class Texts(BatchedModel):
        def generate_batch(self, batch: Any, **kwargs: Any) -> list[Any]:
            return ["cat"] * len(batch)

    assert guarded(Texts(script=[])).invoke(question()).content == "cat"


def test_a_batched_model_that_takes_no_tensors_gets_pictures() -> None:
    model = BatchedModel(script=["cat"], accepts_tensors=False)
    guarded(model).invoke(question())
    for (message,) in model.batches[0][0]:
        assert message.content[1]["mime_type"].startswith("image/")
        assert not tensors(message)


def test_what_wraps_a_batched_model_is_asked_call_by_call() -> None:
    model = BatchedModel(script=["cat"])
    assert guarded(model.with_retry()).guard(question()).num_calls == 4
    assert (len(model.received), model.batches) == (4, [])
    assert not any(map(tensors, model.received))


# --- Parts


def test_samples_are_asked_of_a_copy() -> None:
    model = ScriptedChatModel(script=["cat"], tags=["mine"], cache=True)
    copied = sample_model(model)
    assert (copied.tags, copied.cache) == (["mine", "nostream", "smoothguard:sample"], False)
    assert (model.tags, model.cache) == (["mine"], True)
    inside = sample_model(model.bind(stop=["a"]).with_config(run_name="x"))
    assert unwrap(inside).model.tags == copied.tags
    assert unwrap(inside).kwargs == {"stop": ["a"]}


def test_the_outer_binding_wins() -> None:
    model = ScriptedChatModel(script=["cat"])
    unwrapped = unwrap(model.bind(a=1, b=1).bind(b=2))
    assert unwrapped.model is model
    assert unwrapped.kwargs == {"a": 1, "b": 2}


@pytest.mark.parametrize("output", [AIMessage("cat"), AIMessageChunk("cat"), "cat"])
def test_answers(output: Any) -> None:
    answer = as_answer(output)
    assert (type(answer), answer.content) == (AIMessage, "cat")


@pytest.mark.parametrize("output", [HumanMessage("cat"), None, {"content": "cat"}, ["cat"], b"cat"])
def test_what_is_no_answer(output: Any) -> None:
    with pytest.raises(AdapterError, match=f"got {type(output).__name__}"):
        as_answer(output)


@pytest.mark.parametrize("kind", [ScriptedChatModel, AsyncScriptedChatModel])
@CALLS
async def test_failures_are_in_the_order_of_the_samples(kind: type[ScriptedChatModel], call: str) -> None:
    errors = [OSError(str(index)) for index in range(4)]
    with pytest.raises(QuorumError) as caught:
        await ask(guarded(kind(script=errors), max_concurrency=1), call, question())
    assert caught.value.failures == tuple(errors)


def test_a_model_that_stops_the_iteration_is_a_failure() -> None:
    def script(messages: Any) -> str:
        return next(iter([]))

    for model in (ScriptedChatModel(script=script), RunnableLambda(script)):
        with pytest.raises(QuorumError) as caught:
            guarded(model).guard(question())
        assert len(caught.value.failures) == 4
