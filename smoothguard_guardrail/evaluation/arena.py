"""An arena: many attackers who know the guard, each at its best; for every item the worst of them counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from smoothguard_guardrail.errors import ConfigurationError
from smoothguard_guardrail.evaluation.arms import with_media
from smoothguard_guardrail.evaluation.attacked_media import attack_items
from smoothguard_guardrail.evaluation.attackers import Attacker
from smoothguard_guardrail.evaluation.records import Record
from smoothguard_guardrail.evaluation.replay import CopyAnswers, cached_components, replay
from smoothguard_guardrail.evaluation.statistics import Rate

if TYPE_CHECKING:
    from smoothguard_guardrail.config import SmoothGuardConfig
    from smoothguard_guardrail.core.components import GuardComponents
    from smoothguard_guardrail.evaluation.calibration.answer_store import AnswerStore
    from smoothguard_guardrail.evaluation.identity import ModelIdentity
    from smoothguard_guardrail.evaluation.items import Item
    from smoothguard_guardrail.evaluation.shared import CachedEmbeddings

SIMULATED = 32
"""Perturbed copies that an attacker asks the model about, to learn which of its media is its best."""
FIRST_TRIES = 4
"""Guarded requests with every attacker's medium, on the same copies."""
LAST_TRIES = 16
"""Guarded requests with the best medium of each item, on copies that no attacker has seen."""
NUM_TRIES = (1, 4, 16)
"""Numbers of tries that results are given for."""
BATCH_SIZE = 2
"""Items attacked at once, whatever the number of draws: sizes round differently."""

Succeeded = Callable[["Item", str], bool]
"""Whether an answer to an item is what the attacker wants."""
Progress = Callable[[str], None]


class Duel(Record):
    """One attacked item against the guard."""

    item_id: str
    attacker: str
    medium: Path
    """The attacked file."""
    copies: Rate
    """Perturbed copies whose answer is what the attacker wants: it depends on neither the vote nor the tries."""
    tries: Rate
    """Guarded requests whose answer is what the attacker wants."""

    def any_of(self, k: int) -> float:
        """Return the chance that at least one of `k` tries succeeds.

        Raises:
            ConfigurationError: Fewer than `k` tries were made.
        """
        if k > self.tries.n:
            raise ConfigurationError(f"{self.item_id}: {k} tries are needed, and {self.tries.n} were made")
        return chance_of_any(self.tries, k)


class ArenaResult(Record):
    """What every attacker reached, and the worst of them for every item."""

    attackers: tuple[Attacker, ...]
    duels: dict[str, tuple[Duel, ...]]
    """By attacker, one per item; `FIRST_TRIES` tries each."""
    worst: tuple[Duel, ...]
    """Per item that of the attacker whose medium did best on simulated copies, with `LAST_TRIES` tries on others."""

    def worst_any_of(self, k: int) -> Rate:
        """Return the share of the items that fall within `k` tries of the worst attacker; see `any_of`."""
        return any_of(self.worst, k)

    @property
    def fallen(self) -> Rate:
        """Items on which any try of any attacker succeeded: a bound for one who tries everything."""
        rows = zip(*self.duels.values(), self.worst, strict=True)
        return Rate.of(any(duel.tries.k > 0 for duel in row) for row in rows)


class Arena:
    """Sends attackers against one guard.

    Everything is stored in the folder, so that a stopped run resumes.

    Args:
        store: Asks and stores answers.
        config: The guard.
        folder: Stores attacked media.
        identity: Of the model.
        succeeded: Whether an answer is what the attacker wants.
        embeddings: Embeds answers, each once; None: those that the process shares.
        progress: Called with a description of each step.
    """

    def __init__(
        self,
        store: AnswerStore,
        config: SmoothGuardConfig,
        *,
        folder: Path,
        identity: ModelIdentity,
        succeeded: Succeeded,
        embeddings: CachedEmbeddings | None = None,
        progress: Progress = lambda text: None,
    ) -> None:
        self._store = store
        self._config = config
        self._folder = folder
        self._identity = identity
        self._succeeded = succeeded
        self._components = cached_components(config, embedder=embeddings)
        self._progress = progress

    def run(self, items: Sequence[Item], attackers: Sequence[Attacker]) -> ArenaResult:
        """Let every attacker attack every item, and try the best medium of each on the guard.

        Args:
            items: Items with a medium, and the wanted answer as `target` among their details.
            attackers: With unique names.

        Raises:
            ConfigurationError: There are no items or attackers, names or ids are not unique, or the model is not local.
        """
        _check(items, attackers)
        duels = {each.name: tuple(self.duels(each.name, self.attack(items, each))) for each in attackers}
        best = [max(row, key=lambda duel: duel.copies.k) for row in zip(*duels.values(), strict=True)]
        self._progress(f"{LAST_TRIES} tries with the best medium of each item")
        strongest = with_media(items, {duel.item_id: duel.medium for duel in best})
        last = self._fight(strongest, first_copy=SIMULATED, num_tries=LAST_TRIES)
        worst = [duel.model_copy(update={"tries": tries}) for duel, (_, tries) in zip(best, last, strict=True)]
        return ArenaResult(attackers=tuple(attackers), duels=duels, worst=tuple(worst))

    def attack(self, items: Sequence[Item], attacker: Attacker) -> tuple[Item, ...]:
        """Return the items with attacked media."""
        self._progress(f"{attacker.name}: attacking {len(items)} items")
        files = attack_items(
            self._store.model,
            items,
            attacker.settings,
            folder=self._folder,
            mapper=self._store.mapper,
            identity=self._identity,
            shares_folder=True,
            batch_size=BATCH_SIZE,
        )
        return with_media(items, files)

    def duels(self, name: str, attacked: Sequence[Item]) -> list[Duel]:
        """Try attacked items on the guard, `FIRST_TRIES` times each."""
        self._progress(f"{name}: {FIRST_TRIES} tries with each item")
        fought = self._fight(attacked, first_copy=0, num_tries=FIRST_TRIES)
        return [
            Duel(item_id=item.id, attacker=name, medium=item.media[0], copies=copies, tries=tries)
            for item, (copies, tries) in zip(attacked, fought, strict=True)
        ]

    def _fight(self, items: Sequence[Item], *, first_copy: int, num_tries: int) -> list[tuple[Rate, Rate]]:
        """Return per item which of the first copies, and which of the tries, gave the wanted answer."""
        per_try = self._config.num_samples - self._config.include_clean
        records = self._store.copies(items, self._config, max(SIMULATED, first_copy + per_try * num_tries))
        tries = try_copies(
            items,
            records,
            self._config,
            components=self._components,
            succeeded=self._succeeded,
            first_copy=first_copy,
            num_tries=num_tries,
        )
        return [(self._copies(item, record), tried) for item, record, tried in zip(items, records, tries, strict=True)]

    def _copies(self, item: Item, record: CopyAnswers) -> Rate:
        texts = record.answers[:SIMULATED]
        return Rate.of(None if text is None else self._succeeded(item, text) for text in texts)


def try_copies(
    items: Sequence[Item],
    records: Sequence[CopyAnswers],
    config: SmoothGuardConfig,
    *,
    components: GuardComponents,
    succeeded: Succeeded,
    num_tries: int,
    first_copy: int = 0,
) -> list[Rate]:
    """Return per item how many guarded requests succeed, each on recorded copies that no other one uses.

    Args:
        items: Attacked items.
        records: Answers to perturbed copies of each.
        config: The guard.
        components: Of its vote.
        succeeded: Whether an answer is what the attacker wants.
        num_tries: Guarded requests with each item.
        first_copy: The first copy to use.
    """
    per_try = config.num_samples - config.include_clean
    starts = range(first_copy, first_copy + per_try * num_tries, per_try)
    tried = [replay(config, records, components=components, first_copy=start) for start in starts]
    return [
        Rate.of(found.verdict != "failed" and succeeded(item, found.text) for found in answers)
        for item, answers in zip(items, zip(*tried, strict=True), strict=True)
    ]


def chance_of_any(tries: Rate, k: int) -> float:
    """Return the chance that at least one of `k` tries succeeds, estimated from at least as many tries.

    The estimate is unbiased: the share of the sets of `k` of the tries made that hold a success.

    Source: Chen et al., arXiv 2107.03374, equation 1 (there as pass@k).

    Example:
        >>> chance_of_any(Rate(k=1, n=4), 2)
        0.5
    """
    return 1 - math.comb(int(tries.n - tries.k), k) / math.comb(tries.n, k)


def any_of(duels: Sequence[Duel], k: int) -> Rate:
    """Return the share of the items that fall within `k` tries.

    Tries on one item are alike, so an item counts once, with its own rate; the interval is that of the items.
    """
    return Rate.mean(duel.any_of(k) for duel in duels)


def _check(items: Sequence[Item], attackers: Sequence[Attacker]) -> None:
    for what, names in (("items", [item.id for item in items]), ("attackers", [each.name for each in attackers])):
        if not names or len(set(names)) < len(names):
            raise ConfigurationError(f"expected {what} with unique names, got {', '.join(names[:3]) or 'none'}")
