"""Every setting: what is refused, what survives."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from smoothguard_guardrail import (
    AudioConfig,
    ConfigurationError,
    ImageConfig,
    MediaConfig,
    MediaLimits,
    RemotePolicy,
    SmoothGuardChatModel,
    SmoothGuardConfig,
    SmoothGuardMiddleware,
    SmoothGuardRunnable,
    VoteConfig,
)
from smoothguard_guardrail.testing import ScriptedChatModel
from tests.helpers import config_of

PRESETS = [
    SmoothGuardConfig(),
    SmoothGuardConfig.paper(),
    SmoothGuardConfig.reference(),
    SmoothGuardConfig.text_safe(),
    SmoothGuardConfig.speech(),
]


@pytest.mark.parametrize("config", PRESETS, ids=["default", "paper", "reference", "text_safe", "speech"])
def test_json_round_trip(config: SmoothGuardConfig) -> None:
    changed = config.override(
        image={"resize_range": (0.9, 1.1)},
        seed=2**62,
        media={
            "remote": RemotePolicy(allow_urls=True, allowed_hosts=("a.org",), allowed_directories=("d",)),
            "limits": MediaLimits(max_count=3),
        },
    )
    for each in (config, changed):
        assert SmoothGuardConfig.model_validate(json.loads(json.dumps(each.model_dump(mode="json")))) == each
        assert SmoothGuardConfig.model_validate_json(each.model_dump_json()) == each


def test_paper_is_the_published_rule() -> None:
    paper = SmoothGuardConfig.paper()
    assert (paper.num_samples, paper.include_clean, paper.sigma, paper.noise_space) == (11, True, 0.1, "normalized")
    assert (paper.image.low_pass, paper.image.max_shift, paper.image.resize_range) == (0, 0, None)
    assert (paper.vote.clusterer, paper.vote.benign_weight, paper.early_stop) == ("kmeans", 0, None)
    assert SmoothGuardConfig.paper(sigma=0.3).sigma == 0.3


def test_presets_for_text_and_for_the_shipped_model_state_how_they_perturb() -> None:
    text, reference = SmoothGuardConfig.text_safe(), SmoothGuardConfig.reference()
    assert (text.sigma, text.image.max_shift, text.image.resolution) == (0.05, 5, "legible")
    assert (reference.sigma, reference.image.max_shift, reference.image.max_rotation) == (0.3, 5, 8.0)
    assert text.vote == SmoothGuardConfig().vote
    speech = SmoothGuardConfig.speech()
    assert (speech.audio.snr_db, speech.audio.speed_range) == (15.0, (1.0, 1.15))
    assert speech.override(audio={"snr_db": 20.0, "speed_range": None}) == SmoothGuardConfig()


def test_presets_take_changes() -> None:
    assert SmoothGuardConfig.text_safe(image={"max_shift": 0}).image.resolution == "legible"
    assert SmoothGuardConfig.reference(num_samples=3).num_samples == 3
    paper = SmoothGuardConfig.paper(image={"max_shift": 2})
    assert (paper.image.max_shift, paper.vote.clusterer) == (2, "kmeans")


def test_settings_are_frozen() -> None:
    config = SmoothGuardConfig()
    with pytest.raises(ConfigurationError, match=r"override\(sigma="):
        config.sigma = 0.0
    with pytest.raises(ConfigurationError, match="frozen"):
        config.media.limits.max_bytes = 1
    assert hash(config) == hash(SmoothGuardConfig())


def test_the_number_of_refusals_that_win_is_stated() -> None:
    assert VoteConfig().refusals_needed(8) == 3
    assert SmoothGuardConfig.reference().vote.refusals_needed(8) == 1


def test_override_validates_and_leaves_the_original() -> None:
    config = SmoothGuardConfig(num_samples=4, vote=VoteConfig(min_successes=4))
    assert config.override(sigma=0.3).sigma == 0.3
    assert config.sigma == 0.05
    with pytest.raises(ConfigurationError, match=r"vote.min_successes: expected at most num_samples \(3\), got 4"):
        config.override(num_samples=3)
    with pytest.raises(ConfigurationError, match="no_such_setting"):
        config.override(no_such_setting=1)


def test_override_changes_settings_inside_groups() -> None:
    config = SmoothGuardConfig(vote=VoteConfig(min_agreement=0.5))
    changed = config.override(vote={"benign_weight": 0.1}, media={"limits": {"max_count": 4}})
    assert (changed.vote.min_agreement, changed.vote.benign_weight) == (0.5, 0.1)
    assert changed.media.limits == MediaLimits(max_count=4)
    with pytest.raises(ConfigurationError, match=r"media\.limits\.max_count: expected greater than 0, got 0"):
        config.override(media={"limits": {"max_count": 0}})


INVALID_SIGMA: list[tuple[str, Any]] = [
    ("constructor", lambda: SmoothGuardConfig(sigma=-1)),
    ("override", lambda: SmoothGuardConfig().override(sigma=-1)),
    ("model_copy", lambda: SmoothGuardConfig().model_copy(update={"sigma": -1})),
    ("model_validate", lambda: SmoothGuardConfig.model_validate({"sigma": -1})),
    ("model_validate_json", lambda: SmoothGuardConfig.model_validate_json('{"sigma": -1}')),
    ("preset", lambda: SmoothGuardConfig.paper(sigma=-1)),
    ("mapping of a group", lambda: SmoothGuardConfig(audio={"snr_db": None, "sigma": -1})),
    ("group", lambda: AudioConfig(snr_db=None, sigma=-1)),
]


@pytest.mark.parametrize("make", [make for _, make in INVALID_SIGMA], ids=[name for name, _ in INVALID_SIGMA])
def test_an_invalid_value_is_a_configuration_error_however_it_came_in(make: Any) -> None:
    with pytest.raises(ConfigurationError, match="sigma: expected greater than 0, got -1"):
        make()


@pytest.mark.parametrize("config", [{"sigma": 0.1}, 3, SmoothGuardConfig])
@pytest.mark.parametrize("host", ["runnable", "chat model", "middleware"])
def test_hosts_refuse_what_is_not_a_configuration(host: str, config: Any) -> None:
    model = ScriptedChatModel(script=["Hi."])
    makers: dict[str, Any] = {
        "runnable": lambda: SmoothGuardRunnable(model, config),
        "chat model": lambda: SmoothGuardChatModel(model, config),
        "middleware": lambda: SmoothGuardMiddleware(config),
    }
    with pytest.raises(ConfigurationError, match="config: expected a SmoothGuardConfig"):
        makers[host]()


@pytest.mark.parametrize(
    ("name", "suggestion"), [("max_shift", "image.max_shift"), ("min_agrement", "vote.min_agreement")]
)
def test_an_unknown_setting_suggests_the_right_one(name: str, suggestion: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"{name}: unknown setting; did you mean {suggestion}\?"):
        SmoothGuardConfig(**{name: 1})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("guard.json", '{"sigma": 0.2, "image": {"max_shift": 1}}'),
        ("guard.toml", "sigma = 0.2\n[image]\nmax_shift = 1\n"),
    ],
)
def test_settings_come_from_files(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert SmoothGuardConfig.from_file(path) == SmoothGuardConfig(sigma=0.2, image=ImageConfig(max_shift=1))
    assert SmoothGuardConfig.from_file(path, sigma=0.3).sigma == 0.3


@pytest.mark.parametrize("text", ["{", "[1]", '{"sigma": -1}', '{"eps": 1}'])
def test_a_bad_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "guard.json"
    with pytest.raises(ConfigurationError, match=r"guard\.json cannot be read"):
        SmoothGuardConfig.from_file(path)
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"guard\.json"):
        SmoothGuardConfig.from_file(path)


NUMBERS = (
    "num_samples",
    "sigma",
    "low_pass",
    "max_shift",
    "max_rotation",
    "snr_db",
    "resolution",
    "seed",
    "distance_threshold",
    "benign_weight",
    "refusal_share",
    "early_stop",
    "min_successes",
    "min_agreement",
    "max_concurrency",
)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, "many", [1]])
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_finite_numbers(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        config_of(**{name: value})


def test_numbers_may_come_as_text_as_configuration_files_have_them() -> None:
    config = SmoothGuardConfig(num_samples="7", sigma="0.2", early_stop="0.01")
    assert (config.num_samples, config.sigma, config.early_stop) == (7, 0.2, 0.01)
    with pytest.raises(ConfigurationError, match="num_samples"):
        SmoothGuardConfig(num_samples="7.5")


@pytest.mark.parametrize(
    "settings",
    [
        {"num_samples": 0},
        {"sigma": 0},  # the noise is the one part that cannot be off
        {"sigma": -0.1},
        {"noise_space": "latent"},
        {"low_pass": -1},
        {"max_shift": 1.5},
        {"max_rotation": -1},
        {"max_rotation": 181},
        {"resize_range": (1.1, 0.9)},
        {"resize_range": (0.0, 1.0)},
        {"resize_range": (1.0, math.nan)},
        {"resize_range": (1.0,)},
        {"snr_db": None},
        {"audio": {"sigma": 0.1}},
        {"audio": {"speed_range": (1.1, 0.9)}},
        {"audio": {"speed_range": (0.4, 1.0)}},
        {"audio": {"speed_range": (1.0, math.nan)}},
        {"audio": {"snr_db": None, "sigma": 0}},
        {"resolution": 7},
        {"resolution": "auto "},
        {"seed": -1},
        {"seed": 2**63},
        {"clusterer": "dbscan"},
        {"distance_threshold": 0},
        {"benign_weight": 0.5},
        {"refusal_share": 0.0},
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
def test_invalid_values_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        config_of(**settings)


def test_the_error_names_the_setting() -> None:
    with pytest.raises(ConfigurationError, match=r"sigma: .*; eps: ") as caught:
        SmoothGuardConfig(sigma="loud", eps=1)
    assert caught.value.__cause__ is None
    with pytest.raises(ConfigurationError, match=r"limits.*max_count"):
        SmoothGuardConfig(media=MediaConfig(limits={"max_count": -1}))
