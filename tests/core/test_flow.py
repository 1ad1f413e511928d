"""The flow, driven without a model: who is asked how often, what failures do, what the record says."""

from __future__ import annotations

import asyncio
import json
import os
import random
from base64 import b64encode
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from smoothguard_guardrail import (
    AbstainedError,
    AdapterError,
    ConfigurationError,
    GuardResult,
    MediaError,
    QuorumError,
)
from smoothguard_guardrail._internal.pool import SLOW_WORK
from smoothguard_guardrail.core.effects import CallModel, adrive, drive
from smoothguard_guardrail.core.flow import Guard
from smoothguard_guardrail.media import scan
from smoothguard_guardrail.result import Stance
from smoothguard_guardrail.testing import ScriptedChatModel
from tests.helpers import components_of, config_of, guarded, image_block, pixels, png, question
from tests.media.corpus import pdf_bomb

Script = Sequence[Any] | Callable[[int], Any]


class Host:
    """Answers by the index of the sample, and remembers the waves."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.waves: list[int] = []
        self.requests: list[list[BaseMessage]] = []

    def __call__(self, effect: CallModel) -> list[Any]:
        assert effect.first_index == len(self.requests)
        self.waves.append(len(effect.requests))
        self.requests.extend(effect.requests)
        return [self.answer(effect.first_index + offset) for offset in range(len(effect.requests))]

    async def acall(self, effect: CallModel) -> list[Any]:
        await asyncio.sleep(0)
        return self(effect)

    def answer(self, index: int) -> AIMessage | Exception:
        reply = self.script(index) if callable(self.script) else self.script[index % len(self.script)]
        return reply if isinstance(reply, AIMessage | Exception) else AIMessage(reply)


def guard(parts: dict[str, Any] | None = None, **changes: Any) -> Guard:
    config = config_of(**{"num_samples": 10, "refusal_share": 0.6, "min_agreement": 0.0} | changes)
    return Guard(config, components=components_of(**(parts or {})))


def ask(script: Script, messages: list[BaseMessage] | None = None, **changes: Any) -> tuple[GuardResult, Host]:
    host = Host(script)
    return drive(guard(**changes).flow(question() if messages is None else messages), host), host


def sent(host: Host) -> list[str]:
    return [found.value for request in host.requests for found in scan(request)]


BOOM = RuntimeError("boom")


# --- Waves


@pytest.mark.parametrize(
    ("script", "changes", "waves"),
    [
        (["cat"], {}, [6]),
        (["cat"], {"early_stop": None}, [10]),
        (["cat"], {"num_samples": 1}, [1]),
        (["cat"], {"num_samples": 11, "include_clean": True}, [6]),
        (["cat"], {"min_successes": 9}, [9]),
        (["cat"], {"min_agreement": 0.8}, [8]),
        (["cat"], {"early_stop": 0.05}, [4]),
        (["cat"] * 5 + ["dog"] + ["cat"] * 4, {}, [6, 1]),
        (["cat", "dog"], {}, [6, 3, 1]),
        ([BOOM] + ["cat"] * 9, {}, [6, 1]),
        ([BOOM] * 4 + ["cat"] * 6, {}, [6, 4]),
        ([BOOM] * 6 + ["cat"] * 4, {"min_successes": 3}, [6, 4]),
    ],
    ids=str,
)
def test_waves(script: Script, changes: dict[str, Any], waves: list[int]) -> None:
    result, host = ask(script, **changes)
    assert host.waves == waves
    assert result.num_calls == sum(waves) == len(result.samples)
    assert "cat" in str(result.answer.content)


def test_text_goes_once_and_as_it_came() -> None:
    messages: list[BaseMessage] = [HumanMessage("Hello")]
    result, host = ask(["Hi."], messages, record_samples=True)
    assert (result.verdict, result.num_calls, result.agreement, host.waves) == ("skipped", 1, 1.0, [1])
    assert (result.winner, result.clusters, result.media, result.sigma, result.seed) == (None, (), (), None, None)
    assert result.samples[0].text == "Hi."
    assert host.requests == [messages]
    assert host.requests[0][0] is not messages[0]


def test_text_that_fails_raises_the_models_own_error() -> None:
    with pytest.raises(RuntimeError, match="boom") as caught:
        ask([BOOM], [HumanMessage("Hello")])
    assert caught.value is BOOM


# --- Seeds


def test_same_seed_same_bytes_and_other_seeds_others() -> None:
    first, second = ask(["cat"], seed=5)[1], ask(["cat"], seed=5)[1]
    assert sent(first) == sent(second)
    assert len(set(sent(first))) == 6
    assert not set(sent(first)) & set(sent(ask(["cat"], seed=6)[1]))


def test_without_a_seed_the_noise_is_new_and_the_record_repeats_it() -> None:
    (first, host), (second, other) = ask(["cat"]), ask(["cat"])
    assert not set(sent(host)) & set(sent(other))
    assert first.seed != second.seed
    assert sent(ask(["cat"], seed=first.seed)[1]) == sent(host)


def test_waves_have_noise_of_their_own() -> None:
    _, host = ask(["cat", "dog"], seed=1)
    assert len(set(sent(host))) == len(sent(host)) == 10


def test_one_picture_twice_gets_two_noises() -> None:
    _, host = ask(["cat"], question(image_block(), image_block()), seed=1)
    assert len(set(sent(host))) == len(sent(host)) == 12


# --- Failures


def test_too_few_answers_are_no_answer_and_every_failure_is_there() -> None:
    errors = [ValueError(str(index)) for index in range(10)]
    with pytest.raises(QuorumError, match=r"4 samples answered, 6 were required; failures: ValueError: 4, ") as caught:
        ask(["cat"] * 4 + errors[4:])
    assert caught.value.failures == tuple(errors[4:])
    assert (caught.value.successes, caught.value.required) == (4, 6)
    assert caught.value.__cause__ is errors[4]


def test_nothing_more_is_asked_once_the_quorum_is_out_of_reach() -> None:
    host = Host([BOOM])
    with pytest.raises(QuorumError) as caught:
        drive(guard().flow(question()), host)
    assert host.waves == [6]
    assert len(caught.value.failures) == 6


def test_a_lower_quorum_goes_on() -> None:
    result, host = ask([BOOM] * 9 + ["cat"], min_successes=1)
    assert (result.answer.content, result.agreement, host.waves[0]) == ("cat", 1.0, 6)
    assert [sample.error for sample in result.samples] == ["RuntimeError: boom"] * 9 + [None]
    assert result.clusters[0].representative == 9


def test_representatives_are_indices_of_samples_not_of_answers() -> None:
    result, _ = ask([BOOM, "dog", BOOM, "cat", "cat"], num_samples=5, early_stop=None)
    assert [(cluster.size, cluster.representative) for cluster in result.clusters] == [(2, 3), (1, 1)]
    assert [sample.cluster for sample in result.samples] == [None, 1, None, 0, 0]


def test_the_clean_copy_never_answers_alone() -> None:
    def script(index: int) -> Any:
        return "the code is 7" if index == 0 else BOOM

    for changes in ({"num_samples": 2}, {"num_samples": 10}, {"num_samples": 10, "min_successes": 2}):
        with pytest.raises(QuorumError):
            ask(script, include_clean=True, **changes)


# --- Verdicts


@pytest.mark.parametrize(("agreeing", "verdict"), [(5, "abstained"), (8, "passed")])
def test_agreement_below_the_least_abstains(agreeing: int, verdict: str) -> None:
    script = ["cat"] * agreeing + [f"dog{index}" for index in range(10 - agreeing)]
    result, _ = ask(script, min_agreement=0.8, on_abstain="answer", early_stop=None)
    assert (result.verdict, result.agreement, result.answer.content) == (verdict, agreeing / 10, "cat")


def test_abstaining_refuses_by_default() -> None:
    result, _ = ask([f"word{index}" for index in range(10)], min_agreement=0.5, refusal_text="No.")
    assert (result.verdict, result.action) == ("abstained", "refused")
    assert (result.answer.content, result.answer.tool_calls) == ("No.", [])
    result, _ = ask(["cat", "dog"], min_agreement=0.5)
    assert (result.agreement, result.verdict) == (0.5, "abstained")


def test_abstaining_can_raise_with_the_whole_record() -> None:
    with pytest.raises(AbstainedError, match=r"0\.10") as caught:
        ask([f"word{index}" for index in range(10)], min_agreement=0.5, on_abstain="raise")
    assert caught.value.result.verdict == "abstained"
    assert caught.value.result.num_calls == 10


@pytest.mark.parametrize(
    ("script", "overruled"),
    [(["code"] + ["no"] * 9, True), (["no"], False), ([BOOM] + ["no"] * 9, None)],
    ids=["overruled", "agrees", "failed"],
)
def test_clean_overruled(script: Script, overruled: bool | None) -> None:
    result, host = ask(script, include_clean=True)
    assert result.clean_overruled is overruled
    assert [sample.clean for sample in result.samples] == [True] + [False] * (result.num_calls - 1)
    assert np.array_equal(pixels(scan(host.requests[0])[0].value), pixels(png()))
    assert ask(script)[0].clean_overruled is None


# --- The record


def test_the_winner_keeps_its_tool_calls_and_metadata() -> None:
    call = {"name": "open", "args": {"door": 1}, "id": "a", "type": "tool_call"}
    winner = AIMessage(
        "", tool_calls=[call], response_metadata={"model_name": "m"}, additional_kwargs={"x": 1}, id="run-1"
    )
    result, _ = ask([winner])
    assert result.answer is winner
    assert result.answer.tool_calls == [call]


def test_usage_is_summed_over_the_answers() -> None:
    def script(index: int) -> Any:
        usage = {"input_tokens": 10, "output_tokens": index, "total_tokens": 10 + index}
        return [BOOM, AIMessage("cat", usage_metadata=usage), AIMessage("cat")][index % 3]

    result, _ = ask(script, num_samples=9, early_stop=None)
    assert result.usage == {"input_tokens": 30, "output_tokens": 12, "total_tokens": 42}
    assert ask(["cat"])[0].usage is None


def test_metadata_is_plain_json_without_the_seed_or_any_text() -> None:
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    result, _ = ask([AIMessage("secretword", usage_metadata=usage), "dog", BOOM], seed=123456789, include_clean=True)
    text = json.dumps(result.to_metadata(), allow_nan=False)
    assert "123456789" not in text
    assert "seed" not in text
    assert "secretword" not in text
    assert result.seed == 123456789
    assert json.loads(text)["num_calls"] == result.num_calls


def test_messages_of_failures_stay_out_of_the_metadata() -> None:
    result, _ = ask(["cat", ValueError("cannot parse: the code is 7391"), "cat"])
    assert "7391" in str(result.samples[1].error)
    assert "7391" not in json.dumps(result.to_metadata())
    assert result.to_metadata()["samples"][1]["error"] == "ValueError"


def test_texts_are_recorded_on_request_alone() -> None:
    assert {sample.text for sample in ask(["cat"])[0].samples} == {None}
    assert {sample.text for sample in ask(["cat"], record_samples=True)[0].samples} == {"cat"}


def test_the_record_survives_json() -> None:
    result, _ = ask(["cat", "dog", BOOM], record_samples=True, include_clean=True)
    assert GuardResult.model_validate_json(result.model_dump_json()) == result


def test_timings_name_the_stages() -> None:
    guarded, skipped = ask(["cat"])[0].timings, ask(["Hi."], [HumanMessage("Hello")])[0].timings
    assert set(guarded) == {"scan", "perturb", "model", "vote", "total"}
    assert set(skipped) == {"scan", "model", "total"}
    assert guarded["total"] >= sum(seconds for stage, seconds in guarded.items() if stage != "total") > 0


@pytest.mark.parametrize(("policy", "action"), [("drop", "dropped"), ("pass", "passed")])
def test_what_cannot_be_guarded_is_recorded(policy: str, action: str) -> None:
    remote = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
    result, host = ask(["cat"], question(image_block(), remote), on_unsupported=policy)
    assert [(medium.path, medium.action) for medium in result.media] == [
        ("messages[0].content[1]", "perturbed"),
        ("messages[0].content[2]", action),
    ]
    assert all((remote in request[0].content) is (policy == "pass") for request in host.requests)
    alone, host = ask(["cat"], question(remote), on_unsupported=policy)
    assert (alone.verdict, alone.media[0].action, host.waves) == ("skipped", action, [1])
    with pytest.raises(MediaError, match=r"messages\[0\]\.content\[1\]"):
        ask(["cat"], question(remote))


# --- The two drivers


@pytest.mark.parametrize(
    "script",
    [["cat"], ["cat", "dog", "cat"], [BOOM, "cat", "cat"], [BOOM]],
    ids=["agree", "disagree", "some fail", "all fail"],
)
async def test_both_drivers_do_the_same(script: Script) -> None:
    def outcome(result: GuardResult) -> Any:
        return result.model_dump(exclude={"timings"})

    sync, asynchronous = Host(script), Host(script)
    try:
        expected: Any = outcome(drive(guard(seed=3).flow(question()), sync))
    except QuorumError as error:
        expected = error.failures
    try:
        got: Any = outcome(await adrive(guard(seed=3).flow(question()), asynchronous.acall))
    except QuorumError as error:
        got = error.failures
    assert got == expected
    assert (sent(asynchronous), asynchronous.waves) == (sent(sync), sync.waves)


async def test_what_a_host_raises_ends_the_flow() -> None:
    def fail(effect: CallModel) -> Any:
        raise KeyboardInterrupt

    async def afail(effect: CallModel) -> Any:
        raise asyncio.CancelledError

    with pytest.raises(KeyboardInterrupt):
        drive(guard().flow(question()), fail)
    with pytest.raises(asyncio.CancelledError):
        await adrive(guard().flow(question()), afail)


def test_a_flow_that_is_given_up_leaves_nothing_open() -> None:
    flow = guard().flow(question())
    next(flow)
    flow.close()


def test_a_device_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="device 'nowhere'"):
        ask(["cat"], device="nowhere")


# --- Users' parts


def test_plain_functions_can_be_components() -> None:
    from smoothguard_guardrail.voting import Vote

    def last(labels: Sequence[int], stances: Sequence[Stance], benign: Sequence[float]) -> Vote:
        return Vote(winner=max(labels), scores={label: float(label) for label in labels})

    parts = {
        "clusterer": lambda texts, embed: range(len(texts)),
        "scorer": lambda texts: [1.0 if text == "dog" else -1.0 for text in texts],
        "voter": last,
    }
    result, host = ask(["cat", "cat", "dog"], num_samples=3, parts=parts)
    assert (result.answer.content, result.agreement) == ("dog", pytest.approx(1 / 3))
    assert [sample.benign for sample in result.samples] == [-1, -1, 1]
    assert host.waves == [3]  # of a voter that nothing is known about, all votes are needed


class BrokenEmbedder:
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def embed_documents(self, texts: list[str]) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer(texts) if callable(self.answer) else self.answer


def fails(*_: Any) -> Any:
    raise OSError("out of order")


@pytest.mark.parametrize(
    "parts",
    [
        {"embedder": BrokenEmbedder(OSError("out of order"))},
        {"embedder": BrokenEmbedder(None)},
        {"embedder": BrokenEmbedder([[1.0]])},
        {"embedder": BrokenEmbedder([[1.0]] * 9)},
        {"embedder": BrokenEmbedder([[1.0], [1.0, 2.0]])},
        {"embedder": BrokenEmbedder([[1.0], [float("nan")]])},
        {"embedder": BrokenEmbedder([[], []])},
        {"embedder": BrokenEmbedder(["a", "b"])},
        {"clusterer": fails},
        {"clusterer": lambda texts, embed: None},
        {"clusterer": lambda texts, embed: [0]},
        {"clusterer": lambda texts, embed: [0.5] * len(texts)},
        {"stance_classifier": fails},
        {"stance_classifier": lambda texts: None},
        {"stance_classifier": lambda texts: ["answers"]},
        {"stance_classifier": lambda texts: ["benign"] * len(texts)},
        {"scorer": fails},
        {"scorer": lambda texts: None},
        {"scorer": lambda texts: [0.0]},
        {"scorer": lambda texts: [float("nan")] * len(texts)},
        {"scorer": lambda texts: [2.0] * len(texts)},
        {"scorer": lambda texts: ["good"] * len(texts)},
        {"voter": fails},
        {"voter": lambda labels, stances, benign: 0},
        {"voter": lambda: 0},
    ],
    ids=lambda parts: next(iter(parts)),
)
def test_errors_name_the_broken_component(parts: dict[str, Any]) -> None:
    (name,) = parts
    with pytest.raises(AdapterError, match=name):
        ask(["cat", "dog"], parts=parts, clusterer="agglomerative")


def test_vectors_too_many_are_counted() -> None:
    with pytest.raises(AdapterError, match="returned 9 vectors for 2 texts"):
        ask(["cat", "dog"], parts={"embedder": BrokenEmbedder([[1.0]] * 9)}, clusterer="agglomerative")


def test_the_order_of_the_answers_does_not_matter_to_who_wins() -> None:
    script = ["cat"] * 4 + ["dog"] * 3 + ["cow"] * 3
    for seed in range(5):
        shuffled = random.Random(seed).sample(script, len(script))
        assert ask(shuffled, early_stop=None)[0].answer.content == "cat"


@pytest.mark.slow
async def test_files_that_take_long_leave_the_pool_to_other_requests() -> None:
    bomb = {"type": "file", "base64": b64encode(pdf_bomb("forms")).decode(), "mime_type": "application/pdf"}
    guard = guarded(ScriptedChatModel(script=["A cat."]), media={"pdf": {"timeout": 1.5}})
    assert (await guard.ainvoke(question())).text == "A cat."  # has imported everything
    slow = [asyncio.create_task(guard.ainvoke(question(bomb))) for _ in range(os.cpu_count() or 1)]
    while SLOW_WORK.acquire(blocking=False):  # until it is held by the first of them
        SLOW_WORK.release()
        await asyncio.sleep(0.01)
    assert (await guard.ainvoke(question())).text == "A cat."
    assert not any(task.done() for task in slow)
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)
