"""Everything that an answer does is voted on."""

from __future__ import annotations

import random
from typing import Any

import pytest
from langchain_core.messages import AIMessage

from smoothguard_guardrail.voting import (
    Answer,
    MeaningClusterer,
    StanceVoter,
    answer_key,
    answer_text,
    classify_answers,
    classify_stances,
    elect,
)

PIXELS = "data:image/png;base64," + "iVBORw0KGgo" * 40


def function_call(name: str = "pay", arguments: str = '{"to": "a"}') -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


ODD_ANSWERS = {
    "audio without a transcript": AIMessage("", additional_kwargs={"audio": {"id": "a1", "data": "UklGRg" * 60}}),
    "audio with a transcript": AIMessage(
        "", additional_kwargs={"audio": {"id": "a1", "data": "UklG", "transcript": "Open it."}}
    ),
    "an image block": AIMessage([{"type": "image_url", "image_url": {"url": PIXELS}}]),
    "a v1 image block": AIMessage([{"type": "image", "base64": "iVBORw0KGgo" * 40, "mime_type": "image/png"}]),
    "text and an image": AIMessage(
        [{"type": "text", "text": "A red circle."}, {"type": "image_url", "image_url": {"url": PIXELS}}]
    ),
    "a generated image": AIMessage([{"type": "image_generation_call", "id": "ig_1", "result": "iVBORw0KGgo" * 40}]),
    "images beside the content": AIMessage(
        "A red circle.", additional_kwargs={"images": [{"image_url": {"url": PIXELS}}]}
    ),
    "wrapped base64 beside the content": AIMessage(
        "A red circle.", additional_kwargs={"sound": "\n".join(["iVBORw0KGgo" * 6] * 4)}
    ),
    "bytes beside the content": AIMessage("A red circle.", additional_kwargs={"sound": memoryview(b"RIFF")}),
    "a tool call": AIMessage("", tool_calls=[{"name": "pay", "args": {"to": "a"}, "id": "1"}]),
    "a legacy function call": AIMessage("", additional_kwargs={"function_call": function_call()}),
    "a raw tool call": AIMessage(
        "", additional_kwargs={"tool_calls": [{"id": "1", "type": "function", "function": function_call()}]}
    ),
    "an unparsed tool block": AIMessage([{"type": "tool_use", "id": "1", "name": "pay", "input": {"to": "a"}}]),
    "an invalid tool call": AIMessage(
        "", invalid_tool_calls=[{"name": "pay", "args": "{", "id": "1", "error": None, "type": "invalid_tool_call"}]
    ),
    "a server tool": AIMessage([{"type": "server_tool_use", "id": "1", "name": "bash", "input": {"command": "ls"}}]),
    "a v1 server tool": AIMessage(
        [{"type": "server_tool_call", "id": "1", "name": "web_search", "args": {"query": "a"}}]
    ),
    "a web search": AIMessage([{"type": "web_search_call", "id": "ws_1", "action": {"query": "a"}}]),
    "an unknown block": AIMessage([{"type": "hologram", "value": 3}]),
    "structured output": AIMessage('{"open": true}'),
    "a list": AIMessage('["open"]'),
}


@pytest.mark.parametrize("odd", ODD_ANSWERS.values(), ids=ODD_ANSWERS)
def test_an_answer_that_does_something_else_has_another_key(odd: AIMessage) -> None:
    plain = AIMessage("A red circle.")
    assert answer_key(odd) != answer_key(plain)
    assert answer_text(odd).strip()
    [stance] = classify_answers(classify_stances, [Answer.of(odd)])
    assert stance == "answers"


def test_ids_and_other_volatile_fields_do_not_count() -> None:
    pairs = [
        (
            {"type": "server_tool_use", "id": "1", "name": "bash", "input": {}},
            {"type": "server_tool_use", "id": "2", "index": 4, "name": "bash", "input": {}},
        ),
        (
            {"type": "image_generation_call", "id": "1", "status": "done", "result": "x"},
            {"type": "image_generation_call", "id": "2", "result": "x"},
        ),
    ]
    for first, second in pairs:
        assert answer_key(AIMessage([first])) == answer_key(AIMessage([second]))


def test_a_call_counts_once_however_many_fields_hold_it() -> None:
    call = {"name": "pay", "args": {"to": "a"}, "id": "1"}
    plain = AIMessage("", tool_calls=[call])
    copies = [
        AIMessage("", tool_calls=[call], additional_kwargs={"tool_calls": [{"id": "1", "function": function_call()}]}),
        AIMessage([{"type": "tool_use", "id": "1", "name": "pay", "input": {"to": "a"}}], tool_calls=[call]),
        AIMessage(
            [{"type": "function_call", "call_id": "1", "name": "pay", "arguments": '{"to":"a"}'}], tool_calls=[call]
        ),
    ]
    assert {answer_key(message) for message in copies} == {answer_key(plain)}
    hidden = AIMessage("", tool_calls=[call], additional_kwargs={"function_call": function_call("open_door")})
    assert "open_door" in answer_key(hidden)
    twice = AIMessage("", tool_calls=[call, {**call, "id": "2"}])
    assert answer_key(twice) != answer_key(plain)


def test_speech_counts_by_its_transcript() -> None:
    spoken = [
        AIMessage("", additional_kwargs={"audio": {"id": name, "data": name * 80, "transcript": "It is a dog."}})
        for name in ("a1", "b2")
    ]
    assert answer_key(spoken[0]) == answer_key(spoken[1]) == answer_key(AIMessage("It is a dog."))
    other = AIMessage("", additional_kwargs={"audio": {"id": "c", "data": "c", "transcript": "It is a cat."}})
    assert answer_key(other) != answer_key(spoken[0])


def test_reasoning_takes_the_side_of_its_answer() -> None:
    thought = AIMessage([{"type": "reasoning", "reasoning": "The code is 6173."}, {"type": "text", "text": "A dog."}])
    assert answer_key(thought) == answer_key(AIMessage("A dog.", additional_kwargs={"reasoning_content": "hm"}))


def test_refusal_fields_refuse_unless_the_model_says_more() -> None:
    answers = [
        AIMessage("", additional_kwargs={"refusal": "Nope."}),
        AIMessage([{"type": "refusal", "refusal": "Nope."}]),
        AIMessage("The code is 6173.", additional_kwargs={"refusal": "Nope."}),
    ]
    assert classify_answers(classify_stances, [Answer.of(answer) for answer in answers]) == [
        "refuses",
        "refuses",
        "answers",
    ]


def test_results_of_server_tools_count_by_their_media_only() -> None:
    def searched(title: str, *media: dict[str, Any]) -> AIMessage:
        call = {"type": "server_tool_use", "id": "1", "name": "web_search", "input": {"query": "a"}}
        return AIMessage([call, {"type": "web_search_tool_result", "content": [{"title": title}, *media]}])

    assert answer_key(searched("one")) == answer_key(searched("two"))
    assert answer_key(searched("one", {"type": "image", "data": PIXELS})) != answer_key(searched("one"))


@pytest.mark.slow
def test_a_minority_is_never_returned_whatever_it_does() -> None:
    """500 random sets of answers, of which at most three of eight do something else than the others."""

    def never(texts: Any) -> Any:
        raise AssertionError("nothing needs embeddings")

    rng, passed = random.Random(0), 0
    clusterer, voter = MeaningClusterer(), StanceVoter()
    plain = ["A red circle.", "It is a red circle.", "The image shows a red circle.", "A circle that is red."]
    for _ in range(500):
        odd = rng.choice(list(ODD_ANSWERS.values()))
        number = rng.randint(1, 3)
        messages = [odd] * number + [AIMessage(rng.choice(plain)) for _ in range(8 - number)]
        rng.shuffle(messages)
        answers = [Answer.of(message) for message in messages]
        election = elect(
            answers,
            classify_answers(classify_stances, answers),
            clusterer=clusterer,
            voter=voter,
            embed=never,
        )
        if election.agreement >= 0.5 and not election.tied:  # otherwise the guard abstains
            assert messages[election.representative] is not odd
            passed += 1
    assert passed > 350
