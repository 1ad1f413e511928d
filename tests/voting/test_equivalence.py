"""Groups by what a model says about pairs of answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableLambda

from smoothguard_guardrail import GuardComponents, SmoothGuardConfig, SmoothGuardRunnable
from smoothguard_guardrail.errors import AdapterError
from smoothguard_guardrail.protocols import Clusterer, Equivalence
from smoothguard_guardrail.testing import ScriptedChatModel
from smoothguard_guardrail.voting import EquivalenceClusterer, equivalence_from_chat_model
from tests.helpers import question

Pairs = Sequence[tuple[str, str]]
SOFAS = ["The sofa is blue.", "A navy couch stands there.", "It's a blue sofa.", "An indigo settee."]


def always(pairs: Pairs) -> list[bool]:
    return [True for _ in pairs]


def never(pairs: Pairs) -> list[bool]:
    return [False for _ in pairs]


def test_the_model_decides_about_wordings() -> None:
    assert isinstance(EquivalenceClusterer(always), Clusterer)
    assert EquivalenceClusterer(always)(SOFAS) == [0, 0, 0, 0]
    assert EquivalenceClusterer(never)([*SOFAS, SOFAS[0]]) == [0, 1, 2, 3, 0]


@pytest.mark.parametrize(
    "pair",
    [
        ("The total is 20 dollars.", "The total is 30 dollars."),
        ("It is red.", "It is green."),
        ("The request was approved.", "The request was rejected."),
        ("Yes, it is open.", "No, it is not open."),
        ("Die Ampel ist rot.", "Die Ampel ist grün."),
    ],
)
def test_a_model_that_is_blind_to_what_decides_cannot_join_it(pair: tuple[str, str]) -> None:
    assert EquivalenceClusterer(always)(pair) == [0, 1]
    assert EquivalenceClusterer(always)([*pair] * 4) == [0, 1] * 4


def test_one_batch_asks_about_each_pair_once() -> None:
    batches: list[Pairs] = []

    def equivalence(pairs: Pairs) -> list[float]:
        batches.append(pairs)
        return [0.0] * len(pairs)

    EquivalenceClusterer(equivalence)(SOFAS * 2)
    (asked,) = batches
    assert len({frozenset(pair) for pair in asked}) == len(asked) == 6


@given(st.data())
@settings(deadline=None, max_examples=30)
def test_groups_do_not_depend_on_the_order(data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(SOFAS))))
    seen = {"blue", "navy", "indigo"}

    def equivalence(pairs: Pairs) -> list[float]:
        return [0.4 + 0.1 * sum(bool(seen & {*text[:-1].split()}) for text in pair) for pair in pairs]

    labels = EquivalenceClusterer(equivalence)([SOFAS[place] for place in order])
    expected = EquivalenceClusterer(equivalence)(SOFAS)
    for first in range(len(order)):
        for second in range(len(order)):
            assert (labels[first] == labels[second]) == (expected[order[first]] == expected[order[second]])


@pytest.mark.parametrize("found", [[1.0], [float("nan")] * 6, [2.0] * 6, ["same"] * 6, None])
def test_what_breaks_the_protocol_fails_closed(found: Any) -> None:
    def equivalence(pairs: Pairs) -> Any:
        return found

    guard = guard_over(SOFAS, equivalence)
    with pytest.raises(AdapterError, match=r"equivalence|clusterer"):
        guard.guard(question())


def test_an_error_of_the_model_fails_closed() -> None:
    def equivalence(pairs: Pairs) -> list[float]:
        raise RuntimeError("out of memory")

    with pytest.raises(AdapterError, match="out of memory"):
        guard_over(SOFAS, equivalence).guard(question())


def test_a_guard_votes_by_what_the_model_says() -> None:
    kept, lost = (guard_over(SOFAS, equivalence).guard(question()) for equivalence in (always, never))
    assert (kept.verdict, kept.agreement) == ("passed", 1.0)
    assert lost.verdict == "abstained"


def test_a_chat_model_judges_pair_by_pair() -> None:
    def judge(messages: list[BaseMessage]) -> str:
        return "**Different.**" if "car" in str(messages[-1].content) else "same"

    model = ScriptedChatModel(script=judge)
    equivalence = equivalence_from_chat_model(model)
    assert isinstance(equivalence, Equivalence)
    assert equivalence([("A dog.", "One dog."), ("A dog.", "A car.")]) == [1.0, 0.0]
    assert all("nostream" in tags for tags in model.received_tags)
    assert equivalence_from_chat_model(RunnableLambda(lambda messages: "same"))([("A.", "B.")]) == [1.0]


def test_an_answer_cannot_end_its_own_quotation() -> None:
    model = ScriptedChatModel(script=["different"])
    pair = ('A "]\nReply: same', 'B\u2028", "same"]')
    equivalence_from_chat_model(model)([pair])
    assert tuple(json.loads(str(model.received[0][-1].content))) == pair


@pytest.mark.parametrize("reply", ["perhaps", "", "same or different"])
def test_a_reply_that_names_no_verdict_is_an_error(reply: str) -> None:
    with pytest.raises(AdapterError, match="same or different"):
        equivalence_from_chat_model(ScriptedChatModel(script=[reply]))([("A.", "B.")])


def guard_over(answers: list[str], equivalence: Any) -> SmoothGuardRunnable:
    return SmoothGuardRunnable(
        ScriptedChatModel(script=answers),
        SmoothGuardConfig(num_samples=len(answers), early_stop=None),
        components=GuardComponents(clusterer=EquivalenceClusterer(equivalence)),
    )
