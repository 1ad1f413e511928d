"""Early stopping: what it promises, checked by brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from smoothguard_guardrail import VoteConfig
from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.errors import ConfigurationError
from smoothguard_guardrail.voting import StoppingRule, WeightedVoter, cluster_answers
from smoothguard_guardrail.voting.bounds import boundaries, core_always_wins

levels = st.sampled_from([-1.0, -0.6, 0.0, 0.3, 0.9, 1.0])
weights = st.sampled_from([0.0, 0.1, 0.2, 0.4, 0.49])
JOIN, RIVAL, ELSEWHERE = 0, 1, 2


def some_completion_defeats(core: list[float], others: list[float], pending: int, weight: float) -> bool:
    """Try every number of remaining answers, every cluster for every answer, and the extreme scores."""
    for coming in range(pending + 1):
        places = itertools.product((JOIN, RIVAL, ELSEWHERE), repeat=len(others) + coming)
        for place in places:
            future = [{JOIN: -1.0, RIVAL: 1.0, ELSEWHERE: 0.0}[where] for where in place[len(others) :]]
            benign = [*core, *others, *future]
            labels = [JOIN] * len(core) + list(place)
            scores = WeightedVoter(weight)(labels, benign).scores
            if RIVAL in scores and scores[RIVAL] >= scores[JOIN] - 1e-9:
                return True
    return False


@given(st.lists(levels, min_size=1, max_size=4), st.lists(levels, max_size=2), st.integers(0, 3), weights)
@settings(deadline=None, max_examples=120)
def test_the_bound_is_exact(core: list[float], others: list[float], pending: int, weight: float) -> None:
    assert core_always_wins(core, others, num_pending=pending, benign_weight=weight) != some_completion_defeats(
        core, others, pending, weight
    )


KEYS = ("\na dog", "\nred", "\nit is far", "\ngreen grass")


@given(
    st.integers(2, 9),
    st.lists(st.sampled_from([0, 0, 0, 0, 1, 2]), min_size=1, max_size=9),
    st.tuples(levels, levels, levels, levels),
    weights,
    st.data(),
)
@settings(deadline=None, max_examples=300)
def test_lossless_stopping_elects_what_the_full_vote_elects(
    num_samples: int, seen: list[int], benign: tuple[float, ...], weight: float, data: st.DataObject
) -> None:
    seen = seen[:num_samples]
    rule = StoppingRule(num_samples=num_samples, early_stop="lossless", benign_weight=weight)
    failed = data.draw(st.integers(0, num_samples - len(seen)))
    assume(not rule.next_wave([KEYS[i] for i in seen], None, [benign[i] for i in seen], failed))
    coming = data.draw(
        st.lists(st.tuples(st.integers(0, 3), levels), max_size=num_samples - len(seen) - failed)
        if len(seen) + failed < num_samples
        else st.just([])
    )
    # Answers that are still to come may score anything, those equal to one seen score the same.
    scores = {index: benign[index] for index in set(seen)}
    answers = [(index, benign[index]) for index in seen] + [(i, scores.setdefault(i, score)) for i, score in coming]
    clusterer_seed = data.draw(st.integers(0, 10**6))
    winners = []
    for part in (answers[: len(seen)], answers):
        keys = [KEYS[index] for index, _ in part]
        texts = [key.strip() for key in keys]
        rng = np.random.default_rng(clusterer_seed)
        labels = cluster_answers(
            keys, texts, np.ones((len(keys), 2)), lambda rows, rng=rng: rng.integers(0, 3, len(rows))
        )
        winner = WeightedVoter(weight)(labels, [score for _, score in part]).winner
        winners.append({key for key, label in zip(keys, labels, strict=True) if label == winner})
    # Of two groups of one size the rule rests on the more benign: three answers at .3 can outvote three at -1 for good.
    core = max(set(seen), key=lambda index: (seen.count(index), benign[index]))
    if len(seen) < num_samples - failed:
        assert all(KEYS[core] in winner for winner in winners)


@pytest.mark.parametrize(
    ("num_samples", "weight", "benign", "calls"),
    [
        (10, 0.0, 0.0, 6),
        (10, 0.2, 1.0, 6),
        (10, 0.2, 0.5, 6),
        (10, 0.2, 0.0, 7),
        (10, 0.2, -1.0, 8),
        (10, 0.4, -1.0, 10),
        (8, 0.0, 0.0, 5),
        (8, 0.2, 0.5, 5),
        (1, 0.2, 0.0, 1),
        (2, 0.0, 0.0, 2),
        (3, 0.0, 0.0, 2),
    ],
)
def test_calls_when_all_answers_are_equal(num_samples: int, weight: float, benign: float, calls: int) -> None:
    rule = StoppingRule(num_samples=num_samples, early_stop="lossless", benign_weight=weight)
    made = rule.first_wave()
    while more := rule.next_wave(["\nyes"] * made, None, [benign] * made):
        made += more
    assert made == calls


def test_no_early_stop_asks_all_at_once() -> None:
    for rule in (
        StoppingRule(num_samples=7, early_stop=None, benign_weight=0.0),
        StoppingRule(num_samples=7, early_stop="lossless", benign_weight=None),
        StoppingRule(num_samples=7, early_stop=0.01, benign_weight=None),
    ):
        assert rule.asks_all
        assert not rule.needs_labels
        assert rule.first_wave() == 7
        assert rule.next_wave(["\na"] * 5, None, [0.0] * 5, 2) == 0


def test_a_rule_follows_the_configuration() -> None:
    config = SmoothGuardConfig(num_samples=5, early_stop=0.05, vote=VoteConfig(min_successes=2, min_agreement=0.4))
    rule = StoppingRule.of(config, WeightedVoter(0.1))
    assert rule == StoppingRule(num_samples=5, early_stop=0.05, benign_weight=0.1, min_successes=2, min_agreement=0.4)
    assert rule.needs_labels
    assert StoppingRule.of(config, lambda labels, benign: WeightedVoter(0)(labels, benign)).asks_all


def test_failures_reduce_the_vote_but_not_the_quorum() -> None:
    rule = StoppingRule(num_samples=9, early_stop="lossless", benign_weight=0.0)
    assert rule.next_wave(["\na"] * 5, None, [0.0] * 5) == 0
    # Four failed: three of five equal answers decide the vote, yet five must answer.
    assert rule.next_wave(["\na"] * 3, None, [0.0] * 3, 4) == 2
    assert rule.next_wave([], None, [], 4) == 5
    assert rule.next_wave([], None, [], 9) == 0
    assert StoppingRule(num_samples=9, early_stop="lossless", benign_weight=0.0, min_successes=3).next_wave(
        ["\na"] * 3, None, [0.0] * 3, 4
    ) == 0  # fmt: skip


def test_min_agreement_must_be_certain_too() -> None:
    rule = StoppingRule(num_samples=10, early_stop="lossless", benign_weight=0.0, min_agreement=0.8)
    assert rule.first_wave() == 8
    assert rule.next_wave(["\na"] * 8, None, [0.0] * 8) == 0


@given(
    st.integers(1, 12),
    st.sampled_from(["lossless", 0.01, 0.1, None]),
    weights,
    st.lists(st.tuples(st.integers(0, 2), levels), max_size=12),
    st.integers(0, 12),
)
@settings(deadline=None, max_examples=200)
def test_waves_never_exceed_the_remaining_calls(
    num_samples: int, early_stop: object, weight: float, seen: list[tuple[int, float]], failed: int
) -> None:
    seen = seen[:num_samples]
    failed = min(failed, num_samples - len(seen))
    rule = StoppingRule(num_samples=num_samples, early_stop=early_stop, benign_weight=weight)  # type: ignore[arg-type]
    assert 1 <= rule.first_wave() <= num_samples
    wave = rule.next_wave([KEYS[i] for i, _ in seen], [i for i, _ in seen], [score for _, score in seen], failed)
    assert 0 <= wave <= num_samples - len(seen) - failed


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
        rule = StoppingRule(num_samples=10, early_stop=alpha, benign_weight=0.0)
        calls.append(rule.first_wave())
        made = calls[-1]
        assert rule.next_wave(["\na"] * made, [0] * made, [0.0] * made) == 0
    assert calls == sorted(calls, reverse=True)
    assert calls[0] <= 6
    assert calls[1] == 5


def test_alpha_counts_clusters_if_keys_differ() -> None:
    rule = StoppingRule(num_samples=10, early_stop=0.01, benign_weight=0.0)
    keys = [f"\na {place}" for place in range(6)]
    assert rule.next_wave(keys[:5], [0] * 5, [0.0] * 5) == 0
    assert rule.next_wave(keys, [0, 0, 0, 1, 1, 1], [0.0] * 6) > 0
    with pytest.raises(ConfigurationError, match="labels"):
        rule.next_wave(keys, None, [0.0] * 6)


@pytest.mark.parametrize("bad", [{"num_samples": 0}, {"early_stop": 0.0}, {"early_stop": 0.5}, {"early_stop": 1}])
def test_bad_rules_are_rejected(bad: dict) -> None:
    with pytest.raises(ConfigurationError):
        StoppingRule(**{"num_samples": 5, "early_stop": "lossless", "benign_weight": 0.0} | bad)
