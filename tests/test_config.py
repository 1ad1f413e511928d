"""Every knob: what is refused, what is kept."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from pydantic import ValidationError

from smoothguard_guardrail import ConfigurationError, MediaLimits, RemotePolicy, SmoothGuardConfig

PRESETS = [SmoothGuardConfig(), SmoothGuardConfig.paper(), SmoothGuardConfig.calibrated()]


@pytest.mark.parametrize("config", PRESETS, ids=["default", "paper", "calibrated"])
def test_json_round_trip(config: SmoothGuardConfig) -> None:
    changed = config.override(
        resize_range=(0.9, 1.1),
        seed=2**62,
        remote=RemotePolicy(allow_urls=True, allowed_hosts=("a.org",), allowed_directories=("d",)),
        limits=MediaLimits(max_count=3),
    )
    for each in (config, changed):
        assert SmoothGuardConfig.model_validate(json.loads(json.dumps(each.model_dump(mode="json")))) == each
        assert SmoothGuardConfig.model_validate_json(each.model_dump_json()) == each


def test_paper_is_the_published_rule() -> None:
    paper = SmoothGuardConfig.paper()
    assert (paper.num_samples, paper.include_clean, paper.sigma, paper.noise_space) == (11, True, 0.1, "normalized")
    assert (paper.low_pass, paper.max_shift, paper.resize_range) == (0, 0, None)
    assert (paper.clusterer, paper.benign_weight, paper.early_stop) == ("kmeans", 0, None)
    assert SmoothGuardConfig.paper(sigma=0.3).sigma == 0.3


def test_presets_take_changes_and_name_what_there_is() -> None:
    assert SmoothGuardConfig.calibrated("reference", num_samples=3).num_samples == 3
    with pytest.raises(ConfigurationError, match="there is reference"):
        SmoothGuardConfig.calibrated("gpt")


def test_frozen() -> None:
    config = SmoothGuardConfig()
    with pytest.raises(ValidationError, match="frozen"):
        config.sigma = 0.0  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        config.limits.max_bytes = 1  # type: ignore[misc]
    assert hash(config) == hash(SmoothGuardConfig())


def test_decisive_share() -> None:
    assert SmoothGuardConfig(benign_weight=0.2).decisive_share == pytest.approx(0.7)
    assert SmoothGuardConfig(benign_weight=0).decisive_share == 0.5


def test_override_validates_anew_and_leaves_the_original() -> None:
    config = SmoothGuardConfig(num_samples=4, min_successes=4)
    assert config.override(sigma=0.3).sigma == 0.3
    assert config.sigma == 0.1
    with pytest.raises(ConfigurationError, match="min_successes 4 exceeds num_samples 3"):
        config.override(num_samples=3)
    with pytest.raises(ConfigurationError, match="no_such_knob"):
        config.override(no_such_knob=1)


NUMBERS = (
    "num_samples",
    "sigma",
    "low_pass",
    "max_shift",
    "audio_snr_db",
    "resolution",
    "seed",
    "distance_threshold",
    "benign_weight",
    "early_stop",
    "min_successes",
    "min_agreement",
    "max_concurrency",
)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, "many", [1]])
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_finite_numbers(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        SmoothGuardConfig(**{name: value})


def test_numbers_may_come_as_text_as_configuration_files_have_them() -> None:
    config = SmoothGuardConfig(num_samples="7", sigma="0.2", early_stop="0.01")
    assert (config.num_samples, config.sigma, config.early_stop) == (7, 0.2, 0.01)
    with pytest.raises(ConfigurationError, match="num_samples"):
        SmoothGuardConfig(num_samples="7.5")


@pytest.mark.parametrize(
    "knobs",
    [
        {"num_samples": 0},
        {"sigma": 0},  # the noise is the one part that cannot be off
        {"sigma": -0.1},
        {"noise_space": "latent"},
        {"low_pass": -1},
        {"max_shift": 1.5},
        {"resize_range": (1.1, 0.9)},
        {"resize_range": (0.0, 1.0)},
        {"resize_range": (1.0, math.nan)},
        {"resize_range": (1.0,)},
        {"audio_snr_db": None},
        {"audio_sigma": 0.1},
        {"audio_snr_db": None, "audio_sigma": 0},
        {"resolution": 7},
        {"resolution": "auto "},
        {"seed": -1},
        {"seed": 2**63},
        {"clusterer": "dbscan"},
        {"distance_threshold": 0},
        {"benign_weight": 0.5},
        {"early_stop": "lossy"},
        {"early_stop": 0},
        {"early_stop": 0.5},
        {"early_stop": 1},
        {"early_stop": False},
        {"min_successes": 11},
        {"min_agreement": 1.1},
        {"on_abstain": "guess"},
        {"on_unsupported": "ignore"},
        {"max_concurrency": 0},
        {"remote": {"allow_urls": True, "timeout": 0}},
        {"limits": {"max_bytes": 0}},
        {"limits": {"max_bytes": True}},
        {"limits": {"no_such_limit": 1}},
        {"eps": 0.1},
        {"include_clean": "perhaps"},
        # The clean copy alone would be an unguarded answer.
        {"include_clean": True, "num_samples": 1},
        {"include_clean": True, "min_successes": 1},
    ],
    ids=str,
)
def test_nonsense_is_refused(knobs: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        SmoothGuardConfig(**knobs)
    with pytest.raises(ValueError, match=r"\w"):
        SmoothGuardConfig.model_validate(knobs)


def test_the_error_names_the_knob() -> None:
    with pytest.raises(ConfigurationError, match=r"sigma: .*; eps: ") as caught:
        SmoothGuardConfig(sigma="loud", eps=1)
    assert caught.value.__cause__ is None
    with pytest.raises(ConfigurationError, match=r"limits.*max_count"):
        SmoothGuardConfig(limits={"max_count": -1})
