"""What names the settings of one guard in its records: who reads a record can tell what decided."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.core.components import GuardComponents
from smoothguard_guardrail.result import VotePolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardSettings:
    """The settings of one guard, as its records name them."""

    settings_hash: str
    """`SmoothGuardConfig.settings_hash`."""
    components: dict[str, str] | None
    """Parts of the user's own by the name of their class or function; None without any."""
    policy: VotePolicy
    changed: dict[str, Any]
    """Settings that are not the defaults, without the seed; for logs only, since they may name hosts and folders."""

    @classmethod
    def of(cls, config: SmoothGuardConfig, components: GuardComponents) -> GuardSettings:
        """Return what names a configuration and parts of the user's own."""
        parts = {field.name: getattr(components, field.name) for field in dataclasses.fields(GuardComponents)}
        vote = config.vote
        by_stance = vote.rule == "stance"
        return cls(
            settings_hash=config.settings_hash,
            components={name: _name(part) for name, part in parts.items() if part is not None} or None,
            policy=VotePolicy(
                rule=vote.rule,
                refusal_share=vote.refusal_share if by_stance else None,
                benign_weight=None if by_stance else vote.benign_weight,
                min_agreement=vote.min_agreement,
                on_abstain=vote.on_abstain,
                num_samples=config.num_samples,
                early_stop=config.early_stop,
            ),
            changed=config.changed_settings(),
        )


def _name(part: object) -> str:
    """Return module and name of a function or of an object's class; never its `repr`, which may hold secrets."""
    named = part if hasattr(part, "__qualname__") else type(part)
    return f"{named.__module__}.{named.__qualname__}"
