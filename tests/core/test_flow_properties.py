"""What holds for every script of answers and failures."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smoothguard_guardrail import GuardResult, QuorumError
from smoothguard_guardrail.core.effects import CallModel, adrive, drive
from smoothguard_guardrail.core.flow import Guard
from smoothguard_guardrail.result import Stance
from tests.core.test_flow import BOOM, Host
from tests.helpers import components_of, config_of, question

WORDS = ["cat", "dog", "cow", "refused"]
STANCES: dict[str, Stance] = {"refused": "refuses", "cow": "unsure"}
MESSAGES = question()

scripts = st.lists(st.sampled_from([*WORDS, None]), min_size=1, max_size=9)
changes = st.fixed_dictionaries(
    {
        "rule": st.sampled_from(["stance", "stance", "sentiment"]),
        "refusal_share": st.sampled_from([0.2, 0.35, 0.6]),
        "clusterer": st.sampled_from(["kmeans", "agglomerative"]),
        "min_agreement": st.sampled_from([0.0, 0.6]),
        "lowest_quorum": st.booleans(),
    }
)


def guard(script: list[str | None], changes: dict[str, Any], early_stop: Any) -> Guard:
    known = {name: value for name, value in changes.items() if name != "lowest_quorum"}
    config = config_of(
        num_samples=len(script),
        early_stop=early_stop,
        min_successes=1 if changes["lowest_quorum"] else None,
        seed=1,
        record_samples=True,
        **known,
    )
    components = components_of(stance_classifier=lambda texts: [STANCES.get(text, "answers") for text in texts])
    return Guard(config, components=components)


def run(script: list[str | None], changes: dict[str, Any], early_stop: Any) -> GuardResult | QuorumError:
    host = Host([BOOM if reply is None else reply for reply in script])
    try:
        return drive(guard(script, changes, early_stop).flow(MESSAGES), host)
    except QuorumError as error:
        return error


def winners(result: GuardResult) -> Counter[str | None]:
    return Counter(sample.text for sample in result.samples if sample.cluster == result.winner)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(scripts, changes)
def test_stopping_early_never_changes_the_winner(script: list[str | None], changes: dict[str, Any]) -> None:
    full, early = run(script, changes, None), run(script, changes, "lossless")
    if isinstance(early, QuorumError):
        assert isinstance(full, QuorumError)
    elif isinstance(full, QuorumError):
        assert early.action == "refused"  # enough had refused before calls failed
    if isinstance(full, GuardResult) and isinstance(early, GuardResult):
        assert early.num_calls <= full.num_calls == len(script)
        assert early.action == full.action
        if early.action == "answered":
            assert early.verdict == full.verdict
            assert winners(early).most_common(1)[0][0] in winners(full)
            if changes["clusterer"] == "agglomerative":  # whose clusters are the words
                assert early.answer.content == full.answer.content


@settings(deadline=None, max_examples=40)
@given(scripts, changes, st.sampled_from([0.01, 0.1, 0.4]))
def test_no_stop_is_short_of_a_quorum(script: list[str | None], changes: dict[str, Any], alpha: float) -> None:
    if isinstance(run(script, changes, alpha), QuorumError):
        assert isinstance(run(script, changes, None), QuorumError)


@settings(deadline=None, max_examples=30)
@given(scripts, changes, st.sampled_from([None, "lossless", 0.05]))
def test_the_record_is_consistent(script: list[str | None], changes: dict[str, Any], early_stop: Any) -> None:
    result = run(script, changes, early_stop)
    if isinstance(result, QuorumError):
        assert result.successes < result.required
        assert len(result.failures) + result.successes <= len(script)
        return
    answered = [sample for sample in result.samples if sample.error is None]
    assert [sample.index for sample in result.samples] == list(range(result.num_calls))
    assert [sample.text for sample in result.samples] == script[: result.num_calls]
    assert sum(cluster.size for cluster in result.clusters) == len(answered)
    assert [cluster.label for cluster in result.clusters] == list(range(len(result.clusters)))
    sizes = [cluster.size for cluster in result.clusters]
    assert sizes == sorted(sizes, reverse=True)
    assert 0 < result.agreement <= 1
    assert result.agreement == result.clusters[result.winner].share
    assert (result.agreement == 1) == (len(result.clusters) == 1)
    speaker = result.samples[result.clusters[result.winner].representative]
    withheld = result.action == "refused" and speaker.stance != "refuses"
    assert (speaker.text == result.answer.content, speaker.cluster) == (not withheld, result.winner)
    if result.agreement < changes["min_agreement"]:
        assert result.verdict == "abstained"


@settings(deadline=None, max_examples=20)
@given(scripts, changes, st.sampled_from([None, "lossless", 0.05]))
def test_sync_is_async(script: list[str | None], changes: dict[str, Any], early_stop: Any) -> None:
    host = Host([BOOM if reply is None else reply for reply in script])

    async def call(effect: CallModel) -> Any:
        return host(effect)

    def outcome(result: GuardResult | QuorumError) -> Any:
        return result.failures if isinstance(result, QuorumError) else result.model_dump(exclude={"timings"})

    try:
        got: Any = asyncio.run(adrive(guard(script, changes, early_stop).flow(MESSAGES), call))
    except QuorumError as error:
        got = error
    assert outcome(got) == outcome(run(script, changes, early_stop))
