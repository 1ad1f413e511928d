"""The bound behind stopping early with a stated probability of error."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TIE = 1e-9
_RATES = np.linspace(0.005, 0.995, 199)


@lru_cache(maxsize=512)
def boundaries(num_samples: int, decisive_share: float, min_share: float, alpha: float) -> tuple[int | None, ...]:
    """Return, for each number n of answers, how many the leader needs for stopping; None: never at this n.

    Model: answers fall into clusters that do not change, independently, cluster c with an unknown rate p_c; failed
    calls are independent of what the answers would have been. X_n is the number of answers in c among the first n.
    The full vote over T answers (n <= T <= num_samples, as calls fail) may go against c only if X_T <= L_T, where
    L_T = max(floor(T * decisive_share), ceil(T * min_share) - 1).

    A rule that stops for c at look n when X_n >= k errs there with probability at most

        e(p_c) = P(X_n >= k and X_T <= L_T) = sum over x >= k of Bin(n, p_c)(x) * P(Bin(T - n, p_c) <= L_T - x).

    Any cluster may be the leader, so the probability of an error at look n is at most the sum of e(p_c) over all
    clusters. As the rates sum to one, that is at most the supremum over p of e(p) / p (taken on a grid of 199 rates,
    and for every T). k(n) is the smallest k, more than half of n, that stays within the look's part of alpha: half of
    alpha is reserved for the first look at which n equal answers are enough, and the rest is divided equally among the
    later ones. By the union bound over the looks, the rule errs with probability at most alpha for any rates. Looking
    less often only lowers it.

    Args:
        num_samples: Number of answers of the full vote.
        decisive_share: Share above which the leader beats any rival.
        min_share: Share that the leader must reach in the full vote; 0 for any.
        alpha: Probability of stopping with a winner that the full vote would not have elected.
    """
    limits: list[int | None] = [None] * (num_samples + 1)
    first = next(
        (n for n in range(1, num_samples) if _error(num_samples, n, decisive_share, min_share)[n] <= alpha / 2), 0
    )
    if not first:
        return tuple(limits)
    spent = float(_error(num_samples, first, decisive_share, min_share)[first])
    limits[first] = first
    later = num_samples - 1 - first
    for n in range(first + 1, num_samples):
        errors = _error(num_samples, n, decisive_share, min_share)
        allowed = [k for k in range(n // 2 + 1, n + 1) if errors[k] <= (alpha - spent) / later]
        limits[n] = min(allowed, default=None)
    return tuple(limits)


@lru_cache(maxsize=4096)
def _error(num_samples: int, seen: int, decisive_share: float, min_share: float) -> NDArray[np.float64]:
    """Return sup over rates p and ends T of e(p) / p, by the boundary k = 0..seen."""
    now = _binomial(seen)
    worst = np.zeros(seen + 1)
    for total in range(seen, num_samples + 1):
        limit = max(math.floor(total * decisive_share + _TIE), math.ceil(total * min_share - _TIE) - 1)
        left = np.cumsum(_binomial(total - seen), axis=0)
        need = limit - np.arange(seen + 1)
        tail = np.where(need[:, None] >= 0, left[np.clip(need, 0, total - seen)], 0.0)
        joint = np.cumsum((now * tail)[::-1], axis=0)[::-1]
        worst = np.maximum(worst, (joint / _RATES).max(axis=1))
    return worst


@lru_cache(maxsize=1024)
def _binomial(trials: int) -> NDArray[np.float64]:
    """Return the probabilities of 0..trials successes, (trials + 1, rates)."""
    counts = np.arange(trials + 1)
    logs = np.array([math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1) for k in counts])
    powers = counts[:, None] * np.log(_RATES) + (trials - counts)[:, None] * np.log1p(-_RATES)
    masses: NDArray[np.float64] = np.exp(logs[:, None] + powers)
    return masses
