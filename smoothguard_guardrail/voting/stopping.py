"""When to stop asking the model, and how many calls to make next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Self

from smoothguard_guardrail.errors import ConfigurationError
from smoothguard_guardrail.voting.bounds import boundaries
from smoothguard_guardrail.voting.voter import StanceVoter

if TYPE_CHECKING:
    from smoothguard_guardrail.config import SmoothGuardConfig
    from smoothguard_guardrail.protocols import Voter
    from smoothguard_guardrail.result import Stance


@dataclass(frozen=True, slots=True, kw_only=True)
class StoppingRule:
    """Decides after each wave of calls whether to make another, and how large it is.

    `lossless`: stop when no possible remaining answers and no clustering of them could change what the full vote of
    `num_samples` returns: elect another group, abstain instead of answering, or lack answers. Refusals are one group,
    so it stops as soon as they are enough, even if calls that are left might still fail. Of the other answers it relies
    only on the largest group of equal ones, which no clusterer may split.

    A float alpha: also stop when the leading group is so far ahead that, if answers were independent draws, the full
    vote would elect another one with probability at most alpha over all looks (`bounds.boundaries` states the model
    and the proof). A clean copy among the samples counts as one more draw.

    None: make all `num_samples` calls at once. Every rule does so for a voter other than `StanceVoter`, because both
    bounds are about that voter.

    Args:
        num_samples: Number of calls of the full vote.
        early_stop: The rule.
        voter: The vote; None for any other than `StanceVoter`.
        min_successes: Fewest answers with which the guard does not fail; None: more than half of the calls.
        min_agreement: Agreement below which the guard abstains.
        distinguishes_abstention: Whether refusing by a vote and refusing by abstention differ to the caller.

    Raises:
        ConfigurationError: If a number is out of range.

    Example:
        >>> rule = StoppingRule(num_samples=10, early_stop="lossless", voter=StanceVoter(0.5))
        >>> rule.first_wave()
        6
        >>> rule.next_wave(["yes"] * 6, ["answers"] * 6, [0] * 6)
        0
        >>> rule.next_wave(["yes"] * 5 + ["no"], ["answers"] * 6, [0] * 5 + [1])
        1
    """

    num_samples: int
    early_stop: Literal["lossless"] | float | None
    voter: StanceVoter | None
    min_successes: int | None = None
    min_agreement: float = 0.0
    distinguishes_abstention: bool = False

    def __post_init__(self) -> None:
        if self.num_samples < 1:
            raise ConfigurationError(f"num_samples must be at least 1, got {self.num_samples}")
        if isinstance(self.early_stop, (int, float)) and not 0 < self.early_stop < 0.5:
            raise ConfigurationError(f"early_stop as a probability must be in (0, 0.5), got {self.early_stop}")

    @classmethod
    def of(cls, config: SmoothGuardConfig, voter: Voter) -> Self:
        """Return the rule for a configuration and a voter."""
        return cls(
            num_samples=config.num_samples,
            early_stop=config.early_stop,
            voter=voter if type(voter) is StanceVoter else None,
            min_successes=config.vote.min_successes,
            min_agreement=config.vote.min_agreement,
            distinguishes_abstention=config.vote.on_abstain == "raise",
        )

    def first_wave(self) -> int:
        """Return how many calls to make first: the fewest that can decide if all answers are equal.

        Where equal answers never decide before the last call, as when one refusal wins, it is the fewest that can
        decide if all refuse, but at least half: fewer would cost a wave more often than they save calls.
        """
        if self.early_stop is None or self.voter is None:
            return self.num_samples
        nothing = _Seen(num_samples=self.num_samples)
        fewest = self._fewest(nothing, "core")
        if fewest < self.num_samples:
            return fewest
        return max(self._fewest(nothing, "refusals"), (self.num_samples + 1) // 2)

    def next_wave(
        self, keys: Sequence[str], stances: Sequence[Stance], labels: Sequence[int], num_failed: int = 0
    ) -> int:
        """Return how many calls to make next: the fewest that can decide, given the answers so far; 0 to stop.

        Args:
            keys: Canonical forms of the answers so far, from `answer_key`.
            stances: Their stances.
            labels: Their groups.
            num_failed: Number of failed calls.
        """
        pending = self.num_samples - len(keys) - num_failed
        if pending <= 0:
            return 0
        if self.early_stop is None or self.voter is None or not keys:
            return pending
        equal = Counter(key for key, stance in zip(keys, stances, strict=True) if stance == "answers")
        leader = self.voter(labels, stances).winner
        seen = _Seen(
            num_samples=self.num_samples,
            core=max(equal.values(), default=0),
            others=equal.total() - max(equal.values(), default=0),
            refusals=stances.count("refuses"),
            unsure=stances.count("unsure"),
            failed=num_failed,
            leader=labels.count(leader),
            leader_stance=stances[labels.index(leader)],
        )
        if self._decided(seen):
            return 0
        return self._fewest(seen, "refusals" if seen.leader_stance == "refuses" else "core")

    @property
    def _voter(self) -> StanceVoter:
        if self.voter is None:
            raise RuntimeError("only a StanceVoter can decide before the last call")
        return self.voter

    def _refusals_needed(self, num_answers: int) -> int:
        return self._voter.refusals_needed(num_answers)

    def _fewest(self, seen: _Seen, what: Literal["core", "refusals"]) -> int:
        """Return the fewest further calls that decide if they all join the leading group."""
        return next((more for more in range(1, seen.pending) if self._decided(seen.plus(more, what))), seen.pending)

    def _decided(self, seen: _Seen) -> bool:
        return self._lossless(seen) or (isinstance(self.early_stop, float) and self._sequential(seen, self.early_stop))

    def _lossless(self, seen: _Seen) -> bool:
        """Return whether no outcome of the pending calls changes what is returned.

        An adversary chooses how many of the pending calls answer, and what, and how all answers are clustered, save
        that equal ones stay together. Each check takes the choice that is worst for it; n is the number of answers
        then.
        """
        most, pending = seen.count + seen.pending, seen.pending
        if self._refusals_win(seen):
            return not self.distinguishes_abstention or seen.refusals >= self.min_agreement * most
        if seen.count < (self.min_successes or self.num_samples // 2 + 1):
            return False
        # Every refusal raises n by one and the number needed by at most one, so all pending ones refusing is the worst.
        if seen.refusals + pending >= self._refusals_needed(most):
            return False
        if 2 * seen.unsure > most:
            return seen.unsure >= self.min_agreement * most
        if 2 * (seen.unsure + pending) > most:
            return False
        # All others, seen or pending, may form one rival; refusals that are too few are another, and smaller one.
        rival = max(seen.others + pending, seen.refusals + pending)
        return seen.core > rival and seen.core >= self.min_agreement * most

    def _refusals_win(self, seen: _Seen) -> bool:
        """Return whether the refusals so far are enough, however many calls still answer: more answers need more."""
        quorum = self.min_successes or (seen.count + seen.failed) // 2 + 1
        return seen.count >= quorum and seen.refusals >= self._refusals_needed(seen.count + seen.pending)

    def _sequential(self, seen: _Seen, alpha: float) -> bool:
        asked = seen.count + seen.failed
        if seen.count < (self.min_successes or asked // 2 + 1):
            return False
        share = self._voter.refusal_share
        if seen.leader_stance == "refuses":
            decisive, smallest = 0.0, share
            if self.distinguishes_abstention:
                smallest = max(share, self.min_agreement)
        else:
            # Above these shares the others are too few to refuse, and no rival is as large.
            decisive, smallest = max(0.5, 1 - share), self.min_agreement
        limits = boundaries(self.num_samples, decisive, smallest, alpha)
        limit = limits[seen.count] if seen.count < len(limits) else None
        return limit is not None and seen.leader >= limit


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """Counts of the answers so far."""

    num_samples: int
    core: int = 0
    """Largest group of equal answers."""
    others: int = 0
    """Other answers that neither refuse nor are unsure."""
    refusals: int = 0
    unsure: int = 0
    failed: int = 0
    leader: int = 0
    """Size of the group that leads."""
    leader_stance: Stance = "answers"

    @property
    def count(self) -> int:
        return self.core + self.others + self.refusals + self.unsure

    @property
    def pending(self) -> int:
        return self.num_samples - self.count - self.failed

    def plus(self, more: int, what: Literal["core", "refusals"]) -> _Seen:
        """Return the state after further answers that all join the leading group."""
        if what == "refusals":
            return replace(self, refusals=self.refusals + more, leader=self.leader + more)
        return replace(self, core=self.core + more, leader=self.leader + more)
