"""Rates with Wilson's interval, and McNemar's exact test."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import binomtest

from smoothguard_guardrail.errors import ConfigurationError
from smoothguard_guardrail.evaluation import PairedTest, Rate, mcnemar

Outcomes = st.dictionaries(st.text(max_size=3), st.sampled_from([True, False, None]), max_size=30)


@st.composite
def paired(draw: st.DrawFn) -> tuple[dict[str, bool | None], dict[str, bool | None]]:
    first = draw(Outcomes)
    return first, {key: draw(st.sampled_from([True, False, None])) for key in first}


@st.composite
def rates(draw: st.DrawFn) -> Rate:
    n = draw(st.integers(1, 500))
    return Rate(k=draw(st.integers(0, n)), n=n)


@settings(deadline=None)
@given(rates())
def test_interval_is_wilsons(rate: Rate) -> None:
    expected = binomtest(int(rate.k), rate.n).proportion_ci(0.95, method="wilson")
    assert rate.interval() == pytest.approx((expected.low, expected.high), abs=1e-9)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_a_mean_lies_between_whole_counts(shares: list[float]) -> None:
    rate = Rate.mean(shares)
    low, high = rate.interval() or (math.nan, math.nan)
    below, above = (Rate(k=count, n=rate.n).interval() for count in (math.floor(rate.k), math.ceil(rate.k)))
    assert below is not None
    assert above is not None
    assert rate.value == pytest.approx(sum(shares) / len(shares))
    assert below[0] - 1e-9 <= low <= above[0] + 1e-9
    assert below[1] - 1e-9 <= high <= above[1] + 1e-9


@settings(deadline=None)
@given(rates())
def test_interval_holds_the_share_and_lies_in_0_1(rate: Rate) -> None:
    low, high = rate.interval() or (math.nan, math.nan)
    assert -1e-12 <= low <= rate.k / rate.n + 1e-12
    assert rate.k / rate.n - 1e-12 <= high <= 1 + 1e-12


@settings(deadline=None)
@given(rates())
def test_more_confidence_is_wider_and_the_complement_mirrors(rate: Rate) -> None:
    low, high = rate.interval(0.9) or (math.nan, math.nan)
    wider = rate.interval(0.99) or (math.nan, math.nan)
    assert wider[0] <= low <= high <= wider[1]
    mirrored = Rate(k=rate.n - rate.k, n=rate.n).interval(0.9) or (math.nan, math.nan)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-9)


def test_a_rate_of_none_has_neither_value_nor_interval() -> None:
    rate = Rate.of([None, None])
    assert (rate.value, rate.interval(), str(rate)) == (None, None, "-")


def test_what_was_not_judged_does_not_count() -> None:
    assert Rate.of([True, None, False, True]) == Rate(k=2, n=3)


def test_a_rate_is_at_most_one() -> None:
    with pytest.raises(ValidationError, match="not a rate"):
        Rate(k=2, n=1)


@settings(deadline=None)
@given(paired())
def test_mcnemar_does_not_depend_on_which_arm_comes_first(
    arms: tuple[dict[str, bool | None], dict[str, bool | None]],
) -> None:
    first, second = arms
    forth, back = mcnemar(first, second), mcnemar(second, first)
    assert forth.p_value == pytest.approx(back.p_value)
    assert (forth.both, forth.only_first, forth.only_second, forth.neither) == (
        back.both,
        back.only_second,
        back.only_first,
        back.neither,
    )
    judged = sum(first[key] is not None and second[key] is not None for key in first)
    assert forth.both + forth.only_first + forth.only_second + forth.neither == judged
    assert 0 <= forth.p_value <= 1


@settings(deadline=None)
@given(Outcomes)
def test_an_arm_does_not_differ_from_itself(outcomes: dict[str, bool | None]) -> None:
    found = mcnemar(outcomes, outcomes)
    assert (found.only_first, found.only_second, found.p_value) == (0, 0, 1.0)


def test_mcnemar_of_a_worked_example() -> None:
    first: dict[str, bool | None] = {str(number): number < 9 for number in range(12)}
    second: dict[str, bool | None] = {str(number): number < 2 or number == 11 for number in range(12)}
    # 7 discordant one way, 1 the other: 2 * (C(8, 0) + C(8, 1)) / 2**8
    assert mcnemar(first, second) == PairedTest(both=2, only_first=7, only_second=1, neither=2, p_value=18 / 256)


def test_arms_of_other_items_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="same items"):
        mcnemar({"a": True}, {"b": True})


@settings(deadline=None)
@given(paired())
def test_a_difference_lies_in_its_interval(arms: tuple[dict[str, bool | None], dict[str, bool | None]]) -> None:
    test = mcnemar(*arms)
    interval = test.difference_interval()
    if test.difference is None:
        assert interval is None
        return
    assert interval is not None
    assert -1 <= interval[0] <= test.difference <= interval[1] <= 1
    swapped = mcnemar(*reversed(arms)).difference_interval()
    assert swapped == pytest.approx((-interval[1], -interval[0]))


@pytest.mark.parametrize("shares", [(0.9, 0.01, 0.01, 0.08), (0.8, 0.1, 0.08, 0.02), (0.97, 0.02, 0.0, 0.01)])
def test_the_upper_end_is_seldom_below_the_true_difference(shares: tuple[float, ...]) -> None:
    counts = np.random.default_rng(0).multinomial(200, shares, size=1000)
    true, missed = shares[1] - shares[2], 0
    for both, first, second, neither in counts.tolist():
        test = PairedTest(both=both, only_first=first, only_second=second, neither=neither, p_value=1.0)
        interval = test.difference_interval()
        assert interval is not None
        missed += interval[1] < true
    assert missed <= 40  # 2.5 % are expected
