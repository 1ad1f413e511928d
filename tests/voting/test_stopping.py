"""Early stopping: what it promises, checked by brute force."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smoothguard_guardrail import VoteConfig
from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.errors import ConfigurationError
from smoothguard_guardrail.result import Stance
from smoothguard_guardrail.voting import SentimentVoter, StanceVoter, StoppingRule
from smoothguard_guardrail.voting.bounds import boundaries

REFUSES, UNSURE = "refuses", "unsure"
KINDS = ("a dog", "a cat", "a fox", REFUSES, UNSURE)
"""What one answer may be: one of three different texts, a refusal, or unsure."""
shares = st.sampled_from([0.1, 0.25, 0.35, 0.5, 0.6, 1.0])


def stances(answers: list[str]) -> list[Stance]:
    return [answer if answer in (REFUSES, UNSURE) else "answers" for answer in answers]  # type: ignore[misc]


def keys(answers: list[str]) -> list[str]:
    """Return a key for each answer: every refusal and every unsure answer has words of its own."""
    return [
        answer if stance == "answers" else f"{answer} {place}"
        for place, (answer, stance) in enumerate(zip(answers, stances(answers), strict=True))
    ]


def ask(rule: StoppingRule, answers: list[str], failed: int = 0, labels: list[int] | None = None) -> int:
    labels = [KINDS.index(answer) for answer in answers] if labels is None else labels
    return rule.next_wave(keys(answers), stances(answers), labels, failed)


def outcome(answers: list[str], merged: dict[str, int], voter: StanceVoter, min_agreement: float) -> Any:
    """Return what the guard returns: the stance of the winner, and whether it abstains, if that shows."""
    labels = [merged.get(answer, 10 + KINDS.index(answer)) for answer in answers]
    vote = voter(labels, stances(answers))
    stance = stances(answers)[labels.index(vote.winner)]
    if stance == REFUSES:
        return REFUSES
    abstains = vote.tied or labels.count(vote.winner) < min_agreement * len(labels)
    return "abstained" if abstains else {answer for answer in KINDS if merged.get(answer) == vote.winner} or stance


def rule_for(num_samples: int, share: float = 0.35, **changes: Any) -> StoppingRule:
    return StoppingRule(
        **{"num_samples": num_samples, "early_stop": "lossless", "voter": StanceVoter(share), "min_agreement": 0.5}
        | changes
    )


@pytest.mark.slow
@pytest.mark.parametrize("min_agreement", [0.5, 0.7])
@pytest.mark.parametrize("share", [0.2, 0.35, 0.5, 0.6])
def test_lossless_stopping_returns_what_the_full_vote_returns(share: float, min_agreement: float) -> None:
    stops = 0
    for num_samples, failed in itertools.product(range(2, 7), range(3)):
        rule = rule_for(num_samples, share, min_agreement=min_agreement)
        for size in range(max(1, num_samples - failed - 3), num_samples - failed):
            for seen in map(list, itertools.combinations_with_replacement(KINDS, size)):
                if ask(rule, seen, failed) == 0:
                    stops += 1
                    reached = set(possible_outcomes(rule, seen, num_samples - failed - size))
                    assert len(reached) == 1, (num_samples, failed, seen, reached)
    assert stops > 20


def possible_outcomes(rule: StoppingRule, seen: list[str], pending: int) -> Iterator[str]:
    """Yield the outcomes for all answers that may still come and all clusterings; calls may fail too."""
    equal = [answer for answer in seen if answer not in (REFUSES, UNSURE)]
    core = max(sorted(set(equal)), key=equal.count) if equal else None
    for coming in range(pending + 1):
        for future in itertools.combinations_with_replacement(KINDS, coming):
            for places in itertools.product((0, 1, 2), repeat=3):
                merged = dict(zip(KINDS, places, strict=False))
                assert rule.voter is not None
                found = outcome([*seen, *future], merged, rule.voter, rule.min_agreement)
                yield "core" if isinstance(found, set) and core in found else str(found)


@pytest.mark.parametrize(
    ("num_samples", "share", "calls"),
    [
        (10, 0.5, 6),
        (10, 0.35, 7),
        (10, 0.1, 10),
        (8, 0.5, 5),
        (8, 0.35, 6),
        (8, 0.125, 8),
        (1, 0.35, 1),
        (2, 0.35, 2),
        (3, 0.5, 2),
    ],
)
def test_calls_when_all_answers_are_equal(num_samples: int, share: float, calls: int) -> None:
    rule = rule_for(num_samples, share)
    made = rule.first_wave()
    while more := ask(rule, ["a dog"] * made):
        made += more
    assert made == calls


def test_refusals_in_any_words_stop_the_calls_as_soon_as_they_are_enough() -> None:
    rule = rule_for(8)
    assert rule.first_wave() == 6
    assert ask(rule, [REFUSES] * 6) == 0
    assert ask(rule, [REFUSES] * 3) == 0
    assert ask(rule, ["a dog", "a cat", REFUSES, REFUSES, REFUSES]) == 0
    assert ask(rule, ["a dog", "a dog", "a dog", REFUSES]) > 0
    # To a caller who wants an error for an abstention, three refusals of eight differ from six.
    raising = rule_for(8, distinguishes_abstention=True)
    assert ask(raising, [REFUSES] * 3) > 0
    assert ask(raising, [REFUSES] * 4) == 0


def test_no_early_stop_asks_all_at_once() -> None:
    for rule in (rule_for(7, early_stop=None), rule_for(7, voter=None), rule_for(7, early_stop=0.01, voter=None)):
        assert rule.first_wave() == 7
        assert ask(rule, ["a dog"] * 5, 2) == 0
        assert ask(rule, ["a dog"] * 5) == 2


def test_a_rule_follows_the_configuration() -> None:
    vote = VoteConfig(min_successes=2, min_agreement=0.4, on_abstain="raise")
    config = SmoothGuardConfig(num_samples=5, early_stop=0.05, vote=vote)
    assert StoppingRule.of(config, StanceVoter(0.3)) == StoppingRule(
        num_samples=5,
        early_stop=0.05,
        voter=StanceVoter(0.3),
        min_successes=2,
        min_agreement=0.4,
        distinguishes_abstention=True,
    )
    assert StoppingRule.of(config, SentimentVoter()).voter is None
    assert StoppingRule.of(config, lambda labels, stances, benign: StanceVoter()(labels, stances)).voter is None


def test_failures_reduce_the_vote_but_not_the_quorum() -> None:
    rule = rule_for(9, 0.6)
    assert ask(rule, ["a dog"] * 5) == 0
    # Four failed: three of five equal answers decide the vote, yet five must answer.
    assert ask(rule, ["a dog"] * 3, 4) == 2
    assert ask(rule, [], 4) == 5
    assert ask(rule, [], 9) == 0
    assert ask(rule_for(9, 0.6, min_successes=3), ["a dog"] * 3, 4) == 0
    # Refusals are enough, but the guard would fail if it stopped with fewer answers than failures.
    assert ask(rule_for(9, 0.2), [REFUSES] * 3, 4) > 0


def test_min_agreement_must_be_certain_too() -> None:
    rule = rule_for(10, 0.5, min_agreement=0.8)
    assert rule.first_wave() == 8
    assert ask(rule, ["a dog"] * 8) == 0


@given(
    st.integers(1, 12),
    st.sampled_from(["lossless", 0.01, 0.1, None]),
    shares,
    st.lists(st.sampled_from(KINDS), max_size=12),
    st.integers(0, 12),
)
@settings(deadline=None, max_examples=200)
def test_waves_never_exceed_the_remaining_calls(
    num_samples: int, early_stop: Any, share: float, seen: list[str], failed: int
) -> None:
    seen = seen[:num_samples]
    failed = min(failed, num_samples - len(seen))
    rule = rule_for(num_samples, share, early_stop=early_stop)
    assert 1 <= rule.first_wave() <= num_samples
    assert 0 <= ask(rule, seen, failed) <= num_samples - len(seen) - failed


def chance_of_error(num_samples: int, total: int, rates: tuple[float, ...], limits: tuple, decisive: float) -> float:
    """Return the exact chance that the rule stops for a cluster that then loses the vote of `total` answers.

    Every look is taken; a leader counts as losing when its final share is at most the decisive one.
    """
    chance = 0.0
    for answers in itertools.product(range(len(rates)), repeat=total):
        for seen in range(1, total):
            counts = [answers[:seen].count(cluster) for cluster in range(len(rates))]
            leader = int(np.argmax(counts))
            limit = limits[seen]
            if limit is not None and counts[leader] >= limit:
                if answers.count(leader) <= total * decisive + 1e-9:
                    chance += float(np.prod([rates[cluster] for cluster in answers]))
                break
    return chance


@pytest.mark.parametrize("alpha", [0.01, 0.1, 0.3])
@pytest.mark.parametrize("decisive", [0.5, 0.6])
def test_the_probability_of_a_wrong_stop_is_at_most_alpha(alpha: float, decisive: float) -> None:
    num_samples = 8
    limits = boundaries(num_samples, decisive, 0.0, alpha)
    assert any(limit is not None and limit <= num_samples * decisive for limit in limits) or alpha < 0.1
    worst = 0.0
    for rate in (0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8):
        for total in (num_samples, num_samples - 1):
            worst = max(worst, chance_of_error(num_samples, total, (rate, 1 - rate), limits, decisive))
    worst = max(worst, chance_of_error(7, 7, (0.4, 0.3, 0.3), boundaries(7, decisive, 0.0, alpha), decisive))
    assert worst <= alpha


def test_simulated_stopping_errs_at_most_alpha() -> None:
    alpha, num_samples, runs = 0.05, 20, 20_000
    limits = [limit or num_samples + 1 for limit in boundaries(num_samples, 0.5, 0.0, alpha)]
    rng = np.random.default_rng(0)
    for rate in (0.35, 0.45, 0.5, 0.55, 0.65):
        answers = rng.random((runs, num_samples)) < rate
        counts = np.cumsum(answers, axis=1)
        seen = np.arange(1, num_samples)
        ours = counts[:, :-1] >= np.array(limits)[seen]
        theirs = seen - counts[:, :-1] >= np.array(limits)[seen]
        stops = ours | theirs
        first = stops.argmax(axis=1)
        rows = np.flatnonzero(stops.any(axis=1))
        for_ours = ours[rows, first[rows]]
        total = counts[rows, -1]
        wrong = np.where(for_ours, total <= num_samples / 2, total >= num_samples / 2)
        assert wrong.sum() / runs <= alpha + 3 * (alpha / runs) ** 0.5


def test_a_larger_alpha_never_stops_later() -> None:
    calls = []
    for alpha in (0.001, 0.01, 0.05, 0.2):
        rule = rule_for(10, 0.5, early_stop=alpha)
        calls.append(rule.first_wave())
        assert ask(rule, ["a dog"] * calls[-1]) == 0
    assert calls == sorted(calls, reverse=True)
    assert calls[0] <= 6
    assert calls[1] == 5


def test_alpha_counts_groups_if_keys_differ() -> None:
    rule = rule_for(10, 0.5, early_stop=0.01)
    texts = [f"a {place}" for place in range(6)]
    assert rule.next_wave(texts[:5], ["answers"] * 5, [0] * 5) == 0
    assert rule.next_wave(texts, ["answers"] * 6, [0, 0, 0, 1, 1, 1]) > 0


@pytest.mark.parametrize("bad", [{"num_samples": 0}, {"early_stop": 0.0}, {"early_stop": 0.5}, {"early_stop": 1}])
def test_bad_rules_are_rejected(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        rule_for(**{"num_samples": 5} | bad)
