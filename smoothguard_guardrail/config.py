"""Every knob of the guard, in one frozen object."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from smoothguard_guardrail.errors import ConfigurationError

# Knobs by shipped model, chosen by the study (`benchmarks/study`) on pictures that the README's table does not use.
_CALIBRATED: dict[str, dict[str, Any]] = {
    "reference": {
        "num_samples": 8,
        "sigma": 0.3,
        "low_pass": 0.0,
        "max_shift": 5,
        "benign_weight": 0.45,
        "early_stop": "lossless",
    },
}

REFUSAL_TEXT = "I can't give a reliable answer about this attachment."

UnsupportedPolicy = Literal["error", "drop", "pass"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, problem['loc'])) or 'configuration'}: {problem['msg']}"
                for problem in error.errors()
            )
            raise ConfigurationError(problems) from None

    @field_validator("*", mode="before")
    @classmethod
    def _no_bool_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation not in (bool, bool | None):
            raise ValueError(f"{value} is not what it takes")
        return value


class MediaLimits(_Frozen):
    """What one request may hold, checked before anything is decoded."""

    max_bytes: int = Field(20 * 2**20, gt=0)
    """Encoded bytes of one medium."""
    max_pixels: int = Field(50_000_000, gt=0)
    """Width times height of one image."""
    max_seconds: float = Field(600.0, gt=0)
    """Duration of one recording."""
    max_count: int = Field(16, gt=0)
    """Media in one request."""


class RemotePolicy(_Frozen):
    """Whether references are followed; off by default.

    URLs: https only, public addresses only, checked after resolution and on every redirect.
    """

    allow_urls: bool = False
    allowed_hosts: tuple[str, ...] | None = None
    """Hosts that may be asked; None for any public one."""
    max_redirects: int = Field(3, ge=0)
    timeout: float = Field(10.0, gt=0)
    """Seconds for one medium, redirects included."""
    allowed_directories: tuple[str, ...] = ()
    """Directories below which `file:` URLs and local paths may be read; none by default."""


class SmoothGuardConfig(_Frozen):
    """How the guard perturbs, asks and votes.

    The defaults take noise within the published range and, from the study of the reference model, what withstood an
    attacker who knows the guard: random shifts before the noise. How strong each should be depends on the model, so
    calibrate on yours. `calibrated()` holds the choice for a shipped model; `paper()` is the published rule.

    Example:
        >>> SmoothGuardConfig(num_samples=6, sigma=0.2).decisive_share
        0.7
    """

    num_samples: int = Field(8, ge=1)
    """Model calls per guarded request at most, the clean one included."""
    include_clean: bool = False
    """Whether one of them sees the media as they came."""

    sigma: float = Field(0.1, gt=0)
    """Standard deviation of the Gaussian noise, in units of `noise_space`."""
    noise_space: Literal["pixel", "normalized"] = "pixel"
    """`pixel`: of values in [0, 1]. `normalized`: of values divided by the model's per-channel std."""
    low_pass: float = Field(0.0, ge=0)
    """Sd in pixels of the Gaussian low-pass after the noise; 0 is off."""
    max_shift: int = Field(5, ge=0)
    """Largest random shift in pixels, each axis; 0 is off."""
    resize_range: tuple[float, float] | None = None
    """Smallest and largest factor of a random resize and back; None is off."""
    audio_snr_db: float | None = 20.0
    """Signal-to-noise ratio of the noise on recordings, in dB; None when `audio_sigma` is given."""
    audio_sigma: float | None = Field(None, gt=0)
    """Sd of the noise on waveforms in [-1, 1]; takes the place of `audio_snr_db`."""
    resolution: Literal["auto"] | int | None = "auto"
    """Longest side in pixels at which noise is added. `auto`: the side that the model sees where it tells (pictures
    more than 32 times as long as wide are refused then), and 1024 at most elsewhere; None: the image's own."""
    seed: int | None = Field(None, ge=0, lt=2**63)
    """Makes the noise repeatable; None draws it from the operating system's entropy."""
    device: str = "auto"
    """Where noise is made: `auto` (cuda, mps, cpu, the first there is) or a torch device."""

    clusterer: Literal["kmeans", "agglomerative"] = "agglomerative"
    distance_threshold: float = Field(0.35, gt=0, le=2)
    """Cosine distance below which agglomerative clustering joins clusters."""
    benign_weight: float = Field(0.2, ge=0, lt=0.5)
    """Weight w of the benign term. A cluster with a share above 1/2 + w always wins (`decisive_share`)."""
    early_stop: Literal["lossless"] | float | None = "lossless"
    """`lossless`: stop when no answer still to come could change the winning cluster; a float: stop when the
    chance that one would is at most that; None: ask `num_samples` times."""

    min_successes: int | None = Field(None, ge=1)
    """Samples that must answer; None: more than half of those asked."""
    min_agreement: float = Field(0.0, ge=0, le=1)
    """Agreement below which the verdict is `abstained`."""
    on_abstain: Literal["answer", "refuse", "raise"] = "answer"
    refusal_text: str = REFUSAL_TEXT
    """Answer of `on_abstain="refuse"`."""
    on_unsupported: UnsupportedPolicy = "error"
    """What happens to media and blocks that cannot be guarded."""
    remote: RemotePolicy = RemotePolicy()
    limits: MediaLimits = MediaLimits()

    max_concurrency: int | None = Field(None, ge=1)
    """Model calls in flight at once; None: all of a wave."""
    record_samples: bool = False
    """Whether the result holds the text of every sample."""
    trace_samples: bool | None = None
    """Whether each sample is a traced child run, which then reports its own tokens. None: yes, but for
    `SmoothGuardChatModel`, whose own run reports the sum."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.audio_snr_db is None) == (self.audio_sigma is None):
            raise ValueError("give one of audio_snr_db and audio_sigma, and set the other to None")
        if self.resize_range is not None:
            low, high = self.resize_range
            if not 0.1 <= low <= high <= 4:
                raise ValueError(f"resize_range must be 0.1 <= low <= high <= 4, not {self.resize_range}")
        if isinstance(self.early_stop, float) and not 0 < self.early_stop < 0.5:
            raise ValueError(f"early_stop as a chance must lie in (0, 0.5), not {self.early_stop}")
        if isinstance(self.resolution, int) and self.resolution < 8:
            raise ValueError(f"resolution must be at least 8 pixels, not {self.resolution}")
        if self.min_successes is not None and self.min_successes > self.num_samples:
            raise ValueError(f"min_successes {self.min_successes} exceeds num_samples {self.num_samples}")
        if self.include_clean and (self.num_samples < 2 or self.min_successes == 1):
            raise ValueError(
                "include_clean needs num_samples and min_successes of 2 or more: the clean copy's answer"
                " alone would be an unguarded one"
            )
        return self

    @property
    def decisive_share(self) -> float:
        """Share of the answers above which a cluster wins however benign the others are."""
        return 0.5 + self.benign_weight

    def override(self, **changes: Any) -> Self:
        """Return a copy with these knobs changed, validated anew.

        Raises:
            ConfigurationError: If the result makes no sense.
        """
        return type(self)(**{name: getattr(self, name) for name in type(self).model_fields} | changes)

    @classmethod
    def paper(cls, **changes: Any) -> Self:
        """Return the authors' rule as their code has it.

        Ten noisy copies and the clean one, noise of 0.1 in normalised space and nothing else, K-means with k = 2,
        the larger cluster, the member nearest to its centroid, no benign term, no early stop.

        Source: arXiv 2510.26830, figure 1, and the authors' repository.
        """
        published: dict[str, Any] = {
            "num_samples": 11,
            "include_clean": True,
            "sigma": 0.1,
            "noise_space": "normalized",
            "low_pass": 0.0,
            "max_shift": 0,
            "resize_range": None,
            "clusterer": "kmeans",
            "benign_weight": 0.0,
            "early_stop": None,
        }
        return cls(**published | changes)

    @classmethod
    def calibrated(cls, model: str = "reference", **changes: Any) -> Self:
        """Return the knobs that were chosen for a shipped model, against adaptive attacks on it.

        Args:
            model: Name of a shipped model: `reference`.
            **changes: Knobs to set otherwise.

        Raises:
            ConfigurationError: If no shipped model has that name.
        """
        if model not in _CALIBRATED:
            raise ConfigurationError(f"no shipped model is called {model!r}; there is {', '.join(_CALIBRATED)}")
        return cls(**_CALIBRATED[model] | changes)
