"""When two answers are equal."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage

from smoothguard_guardrail.voting import Answer, answer_key, answer_text, default_embedder, yes_or_no
from smoothguard_guardrail.voting.folding import fold


def call(name: str = "pay", identifier: str | None = "1", **arguments: object) -> dict:
    return {"name": name, "args": arguments, "id": identifier, "type": "tool_call"}


SAME = (
    (
        "Yes, there is.",
        "yes there is",
        "**Yes** – there is!",
        "YES,  there\nis…",
        "“Yes, there is”",
        "Y\u200bes there is",
    ),
    ("It can't be", "it can’t be", "It cant be."),
    ("The code is 7391.", "the code is: 7391", 'The code is "7391"', "The code is **7391**", "the code is ７３９１"),
    ("a well-known dog", "A well known dog"),
    ("", "  ", "\n"),
)
DIFFERENT = (
    "7391", "7,391", "7.391", "-7391", "73-91", "73:91", "73/91", "73 91", "73*91", "73+91", "73%91", "7391%", "$7391",
    "+7391", "~7391", ".7391", "#7391", "5", "-5", "- 5", "5 - 5", "5 * 5", "5 5", "5-5", "1.5", "15", "1,5", "1:5",
    "10²", "102", "½", "1/2", "12", "x-5", "x 5", "C", "C#", "example.com", "example com", "3 < 5", "3 > 5", "yes",
    "yes?", "№ 5",
)  # fmt: skip


@pytest.mark.parametrize("group", SAME)
def test_forms_of_one_answer_are_equal(group: tuple[str, ...]) -> None:
    assert len({answer_key(AIMessage(text)) for text in group}) == 1


def test_differences_in_meaning_are_kept() -> None:
    for first, second in itertools.combinations(DIFFERENT, 2):
        assert answer_key(AIMessage(first)) != answer_key(AIMessage(second)), (first, second)


@given(st.text())
def test_folding_is_idempotent_and_ignores_case_and_space(text: str) -> None:
    folded = fold(text)
    assert " ".join(folded.split()) == folded
    assert fold(f"  {text}\n") == folded


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_different_numbers_never_fold_together(first: float, second: float) -> None:
    assert (fold(f"It is {first!r}.") == fold(f"it is {second!r}")) == (repr(first) == repr(second))


def test_content_blocks_and_refusals() -> None:
    blocks = AIMessage([{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "A dog."}])
    assert answer_text(blocks) == "A dog."
    assert answer_key(blocks) == answer_key(AIMessage("a dog"))
    assert answer_text(AIMessage("", additional_kwargs={"refusal": "I can't."})) == "I can't."
    assert answer_text(AIMessage([{"type": "refusal", "refusal": "I won't."}])) == "I won't."


def test_tool_calls_count_by_name_and_arguments() -> None:
    first = AIMessage("", tool_calls=[call(to="a", sum=1), call("log")])
    second = AIMessage("", tool_calls=[call("log", "9"), call(identifier="8", sum=1, to="a")])
    assert answer_key(first) == answer_key(second)
    assert answer_text(first) == 'log({})\npay({"sum": 1, "to": "a"})'
    others = [
        AIMessage(answer_text(first)),
        AIMessage(""),
        AIMessage("", tool_calls=[call(to="a", sum=2), call("log")]),
        AIMessage("", tool_calls=[call(to="a", sum=1)]),
        AIMessage("", tool_calls=[call(to="a", sum=1), call("log"), call("log")]),
        AIMessage(
            "", invalid_tool_calls=[{"name": "pay", "args": "{", "id": "1", "error": None, "type": "invalid_tool_call"}]
        ),
    ]
    keys = [answer_key(message) for message in (first, *others)]
    assert len(set(keys)) == len(keys)
    for message in others:
        assert Answer.of(first).structure != Answer.of(message).structure


def test_json_objects_count_by_their_parsed_value() -> None:
    same = (
        '{"colour": "red", "count": 2}',
        ' {"count":2,\n "colour":"red"}\n',
        '```json\n{"count": 2, "colour": "red"}\n```',
    )
    assert len({answer_key(AIMessage(text)) for text in same}) == 1
    others = (
        '{"colour": "red", "count": 3}',
        '{"colour": "red"}',
        '{"colour": "red", "count": "2"}',
        '{"colour": "Red", "count": 2}',
        '{"colour": "red", "count": 2',
        "colour red count 2",
        '[{"colour": "red", "count": 2}]',
        '["colour", "red", "count", 2]',
        '{"colour": "red", "count": 2} and more',
    )
    for text in others:
        assert Answer.of(AIMessage(same[0])).structure != Answer.of(AIMessage(text)).structure
    call_of_it = AIMessage("", tool_calls=[call("answer", colour="red", count=2)])
    assert answer_key(call_of_it) != answer_key(AIMessage(same[0]))
    assert answer_key(AIMessage('{"a":' * 100_000)).startswith("\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Yes, there is a red circle.", 1),
        ("No, there is no red circle.", -1),
        ("yes", 1),
        ("NO!", -1),
        ("**No**", -1),
        ("No problem, here is the code.", 0),
        ("Not only that.", 0),
        ("Yesterday it rained.", 0),
        ("Nothing is there.", 0),
        ("A dog.", 0),
        ("", 0),
        ("???", 0),
        ("Ja, da ist ein Hund.", 1),
        ("Nein, da ist kein Hund.", -1),
        ("Sí, hay un perro.", 1),
        ("Non, il n'y a pas de chien.", -1),
        ("Sim, há um cão.", 1),
        ("Não.", -1),
        ("Sì, c'è un cane.", 1),
        ("Да, есть.", 1),
        ("Нет, собаки нет.", -1),
        ("是的，有一只狗。", 1),
        ("不是，没有狗。", -1),
        ("不锈钢的杯子", 0),
        ("はい、います。", 1),
        ("いいえ、いません。", -1),
        ("نعم، هناك كلب.", 1),
        ("لا، ليس هناك كلب.", -1),
        ("हाँ, एक कुत्ता है।", 1),
        ("नहीं, कुत्ता नहीं है।", -1),
        ("Evet, bir köpek var.", 1),
        ("Hayır, köpek yok.", -1),
    ],
)
def test_yes_or_no(text: str, expected: int) -> None:
    assert yes_or_no(text) == expected


def test_a_lone_surrogate_does_not_stop_the_vote() -> None:
    broken = answer_text(AIMessage("Yes \ud83d"))
    assert broken == "Yes ?"
    assert len(default_embedder().embed_documents([broken])[0]) == 384
