"""What names a guard's settings in its records."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoothguard_guardrail import AudioConfig, GuardComponents, ImageConfig, SmoothGuardConfig, VoteConfig
from smoothguard_guardrail.core.guard_settings import GuardSettings
from smoothguard_guardrail.result import GuardResult
from smoothguard_guardrail.testing import ScriptedChatModel, WordEmbeddings
from tests.helpers import answering, guarded, question

configs = st.builds(
    SmoothGuardConfig,
    num_samples=st.integers(2, 16),
    include_clean=st.booleans(),
    sigma=st.floats(0.01, 1),
    seed=st.none() | st.integers(0, 2**63 - 1),
    early_stop=st.none() | st.just("lossless") | st.floats(0.01, 0.4),
    image=st.builds(ImageConfig, max_shift=st.integers(0, 9), resolution=st.none() | st.just("auto") | st.just(336)),
    audio=st.just(AudioConfig()) | st.just(AudioConfig(snr_db=None, sigma=0.1)),
    vote=st.builds(VoteConfig, refusal_text=st.text(max_size=20), on_abstain=st.sampled_from(["answer", "raise"])),
)


@given(configs)
def test_the_changed_settings_are_the_whole_configuration(config: SmoothGuardConfig) -> None:
    changed = json.loads(json.dumps(config.changed_settings()))
    assert SmoothGuardConfig(**changed) == config.override(seed=None)
    assert SmoothGuardConfig(**changed).settings_hash == config.settings_hash


@given(configs, configs)
def test_hashes_are_equal_exactly_when_settings_are(first: SmoothGuardConfig, second: SmoothGuardConfig) -> None:
    are_equal = first.override(seed=None) == second.override(seed=None)
    assert (first.settings_hash == second.settings_hash) is are_equal


def test_the_hash_is_stable_and_short() -> None:
    assert SmoothGuardConfig(sigma=1, seed=7).settings_hash == SmoothGuardConfig(sigma=1.0).settings_hash
    assert len(SmoothGuardConfig().settings_hash) == 16
    int(SmoothGuardConfig().settings_hash, 16)


@pytest.mark.slow
@given(st.integers(0, 2**63 - 1))
def test_nothing_that_names_the_settings_depends_on_the_seed(seed: int) -> None:
    described = [GuardSettings.of(SmoothGuardConfig(seed=each), GuardComponents()) for each in (None, seed)]
    assert described[0] == described[1]


def test_parts_of_the_users_own_are_named_without_their_contents() -> None:
    parts = GuardComponents(
        embedder=WordEmbeddings(),
        stance_classifier=answering,
        scorer=lambda texts: [0.0 for _ in texts],
        voter=functools.partial(print, "the vault code"),  # type: ignore[arg-type]
    )
    assert GuardSettings.of(SmoothGuardConfig(), parts).components == {
        "embedder": "smoothguard_guardrail.testing.WordEmbeddings",
        "stance_classifier": "tests.helpers.answering",
        "scorer": f"{__name__}.test_parts_of_the_users_own_are_named_without_their_contents.<locals>.<lambda>",
        "voter": "functools.partial",
    }


CASES: list[tuple[list[Any], dict[str, Any], tuple[Any, ...]]] = [
    (["A cat."], {}, ("passed", "answered", "majority", False)),
    (["A cat.", "A dog.", "A sun.", "A moon."], {}, ("abstained", "refused", "low_agreement", True)),
    (
        ["A cat.", "A dog.", "A sun.", "A moon."],
        {"on_abstain": "answer"},
        ("abstained", "answered", "low_agreement", False),
    ),
    (["A cat.", "A cat.", "A dog.", "A dog."], {}, ("abstained", "refused", "tie", True)),
]


@pytest.mark.parametrize(("script", "settings", "expected"), CASES)
def test_a_result_says_what_decided(script: list[Any], settings: dict[str, Any], expected: tuple[Any, ...]) -> None:
    result = guarded(ScriptedChatModel(script=script), **{"min_agreement": 0.5} | settings).guard(question())
    assert (result.verdict, result.action, result.reason, result.withheld) == expected


def test_refusals_and_requests_without_media_have_reasons_of_their_own() -> None:
    refusing = guarded(ScriptedChatModel(script=["I can't help with that."]), parts={"stance_classifier": _refusing})
    result: GuardResult = refusing.guard(question())
    assert (result.action, result.reason, result.withheld) == ("refused", "refusals", False)
    assert guarded(ScriptedChatModel(script=["Hi."])).guard("Hello").reason == "no_media"


def _refusing(texts: Any) -> list[Any]:
    return ["refuses"] * len(texts)
