"""Every setting of the guard, as frozen values in groups."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from smoothguard_guardrail._internal.shares import at_least
from smoothguard_guardrail.errors import ConfigurationError

REFUSAL_TEXT = "I can't give a reliable answer about this attachment."

UnsupportedPolicy = Literal["error", "drop", "pass"]
Resolution = Literal["auto", "legible"]


class _Settings(BaseModel):
    """Base class of settings: frozen, without unknown names, and invalid only as a `ConfigurationError`."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigurationError(_describe(error, type(self))) from None

    def __setattr__(self, name: str, value: Any) -> None:
        raise ConfigurationError(f"settings are frozen: make a changed copy with override({name}=...)")

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """Validate a mapping of settings.

        Raises:
            ConfigurationError: If a setting is unknown or invalid.
        """
        try:
            return super().model_validate(obj, **options)
        except ValidationError as error:
            raise ConfigurationError(_describe(error, cls)) from None

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **options: Any) -> Self:
        """Validate a JSON object of settings.

        Raises:
            ConfigurationError: If it is not JSON, or a setting is unknown or invalid.
        """
        try:
            return super().model_validate_json(json_data, **options)
        except ValidationError as error:
            raise ConfigurationError(_describe(error, cls)) from None

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy; unlike pydantic's own it validates the update.

        Raises:
            ConfigurationError: If a setting is unknown or invalid.
        """
        return self.override(**update) if update else super().model_copy(deep=deep)

    def override(self, **changes: Any) -> Self:
        """Return a copy with these settings changed; a mapping changes the named settings of a group.

        Raises:
            ConfigurationError: If a setting is unknown or invalid.

        Example:
            >>> SmoothGuardConfig().override(sigma=0.2, image={"max_shift": 3}).image.max_shift
            3
        """
        values = {name: getattr(self, name) for name in type(self).model_fields}
        for name, change in changes.items():
            group = values.get(name)
            if isinstance(group, _Settings) and isinstance(change, Mapping):
                try:
                    values[name] = group.override(**change)
                except ConfigurationError as error:
                    raise ConfigurationError(f"{name}.{error}") from None
            else:
                values[name] = change
        return type(self)(**values)

    @field_validator("*", mode="before")
    @classmethod
    def _reject_bool_as_number(cls, value: Any, info: ValidationInfo) -> Any:
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and annotation not in (bool, bool | None):
            raise ValueError(f"expected {_name(annotation)}, got a bool")
        return value


class ImageConfig(_Settings):
    """How images are perturbed, besides the noise."""

    low_pass: float = Field(default=0.0, ge=0)
    """Standard deviation in pixels of the Gaussian low-pass filter after the noise; 0 is off."""
    max_shift: int = Field(default=5, ge=0)
    """Largest random shift in pixels along each axis; what leaves the image is lost. 0 is off."""
    max_rotation: float = Field(default=0.0, ge=0, le=180)
    """Largest random rotation in degrees; 0 is off."""
    resize_range: tuple[float, float] | None = None
    """Smallest and largest factor of a random resize, placed at random in the old frame: up to 1 nothing is lost at the
    edges. None is off."""
    resolution: Resolution | int | None = "auto"
    """Longest side in pixels at which noise is added. `auto`: the size that the model sees, where it is known (images
    more than 32 times as long as wide are then refused), otherwise at most 1024; `legible`: the same, but otherwise at
    most 2048; None: the image's own."""

    @field_validator("resize_range")
    @classmethod
    def _check_resize_range(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not 0.1 <= value[0] <= value[1] <= 4:
            raise ValueError("expected 0.1 <= smallest <= largest <= 4")
        return value

    @field_validator("resolution")
    @classmethod
    def _check_resolution(cls, value: Resolution | int | None) -> Resolution | int | None:
        if isinstance(value, int) and value < 8:
            raise ValueError("expected at least 8 pixels")
        return value


class AudioConfig(_Settings):
    """How audio is perturbed: a random speed if asked for, then noise of a ratio to the signal, or of a fixed sd.

    The default is the weakest noise that stopped attacks that do not know the guard, on a transcriber of speech
    (`benchmarks/field`), at 2 points of word errors on recordings of less than 6 seconds. Attackers who know it get
    through: lower ratios and random speeds stop more of them.
    """

    snr_db: float | None = 20.0
    """Signal-to-noise ratio in dB; None where `sigma` is given."""
    sigma: float | None = Field(default=None, gt=0)
    """Standard deviation of the noise on waveforms in [-1, 1], instead of `snr_db`."""
    speed_range: tuple[float, float] | None = None
    """Smallest and largest factor of a random speed, placed at random in the old length: from 1 on nothing is lost at
    the ends. None is off."""

    @field_validator("speed_range")
    @classmethod
    def _check_speed_range(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not 0.5 <= value[0] <= value[1] <= 2:
            raise ValueError("expected 0.5 <= smallest <= largest <= 2")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.snr_db is None) == (self.sigma is None):
            raise ValueError("give either snr_db or sigma, and set the other to None")
        return self


class VoteConfig(_Settings):
    """How the answers are grouped, which group wins, and what happens without a clear winner."""

    rule: Literal["stance", "sentiment"] = "stance"
    """`stance`: refusals are one group, which wins from `refusal_share` on, and otherwise the largest group of answers
    does. `sentiment`: the paper's vote, by the size of clusters and how benign they are."""
    refusal_share: float = Field(default=0.35, gt=0, le=1)
    """Share of the answers at which refusals win, for `rule="stance"`: with 0.35, 3 of 8. Above 0.5: no preference."""
    benign_weight: float = Field(default=0.2, ge=0, lt=0.5)
    """Weight of the benign score, for `rule="sentiment"`."""
    clusterer: Literal["meaning", "agglomerative", "kmeans"] = "meaning"
    """How answers are grouped: by what they state, by distance of their embeddings, or into two clusters of those."""
    distance_threshold: float = Field(default=0.35, gt=0, le=2)
    """Cosine distance below which agglomerative clustering merges clusters."""
    min_successes: int | None = Field(default=None, ge=1)
    """Samples that must answer; None: more than half of those asked."""
    min_agreement: float = Field(default=0.5, ge=0, le=1)
    """Agreement below which the verdict is `abstained`, as it is for a tie; 0 never abstains."""
    on_abstain: Literal["answer", "refuse", "raise"] = "refuse"
    """What an abstention returns: the elected answer, a refusal, or an `AbstainedError`."""
    suspicion_threshold: float | None = Field(default=None, ge=0, le=1)
    """Suspicion above which the result is marked `suspicious`; needs `include_clean`. It changes no answer. None: none
    is marked."""
    refusal_text: str = REFUSAL_TEXT
    """The answer where `on_abstain` is `refuse` and the elected answer is not a refusal itself."""

    @property
    def embeds(self) -> bool:
        """Whether votes embed the answers."""
        return self.rule == "sentiment" or self.clusterer != "meaning"

    def refusals_needed(self, num_answers: int) -> int:
        """Return how many refusals of this number of answers win, whatever the others say."""
        return at_least(self.refusal_share, num_answers)


class MediaLimits(_Settings):
    """What one request may contain, checked before anything is decoded."""

    max_bytes: int = Field(default=20 * 2**20, gt=0)
    """Encoded bytes of one medium."""
    max_pixels: int = Field(default=25_000_000, gt=0)
    """Width times height of one image or frame."""
    max_decoding_mib: int = Field(default=200, gt=0)
    """Memory in MiB that decoding one image or video may take, as estimated from its pixels and format."""
    max_total_pixels: int = Field(default=100_000_000, gt=0)
    """Sum of the pixels of all images and frames in one request."""
    max_seconds: float = Field(default=600.0, gt=0)
    """Duration of one audio file or video."""
    max_video_pixels: int = Field(default=2_500_000_000, gt=0)
    """Pixels of all frames of one video that are decoded to reach those that are sent: it bounds the time."""
    max_total_seconds: float = Field(default=600.0, gt=0)
    """Sum of the durations of all audio files in one request."""
    max_count: int = Field(default=16, gt=0)
    """Media in one request."""


class RemotePolicy(_Settings):
    """Whether references to media are followed; off by default.

    URLs: https only, and public addresses only, checked after name resolution and on every redirect.
    """

    allow_urls: bool = False
    allowed_hosts: tuple[str, ...] | None = None
    """Hosts that media may come from; None: any public host."""
    max_redirects: int = Field(default=3, ge=0)
    timeout: float = Field(default=10.0, gt=0)
    """Seconds for one medium, redirects included."""
    allowed_directories: tuple[str, ...] = ()
    """Directories below which `file:` URLs and local paths may be read; none by default."""


class PdfConfig(_Settings):
    """How PDFs are read, page by page, and what the model gets in their place."""

    send_as: Literal["images", "pdf"] = "images"
    """`images`: an image block per page, where the PDF is a block of its own in a message's content, and a PDF of such
    images elsewhere. `pdf`: always a PDF, in the block's own shape."""
    dpi: int = Field(default=150, ge=36, le=600)
    """Resolution at which pages are drawn. Pages over `limits.max_pixels` are drawn at a lower one."""
    max_pages: int = Field(default=20, gt=0)
    """Pages of one PDF."""
    timeout: float = Field(default=20.0, gt=0)
    """Seconds that drawing the pages of all PDFs in one request may take; the last of them may take as long again."""
    keep_text: bool = False
    """Whether the text layer of a page goes before its image, as text. An attacker writes into it what nobody sees, and
    noise does nothing to it."""
    on_embedded_files: Literal["error", "drop"] = "error"
    """What happens to a PDF with files inside it, such as an electronic invoice: refused, or guarded without them."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.keep_text and self.send_as == "pdf":
            raise ValueError('keep_text: expected send_as="images", since the pages of a new PDF hold no text')
        return self


class VideoConfig(_Settings):
    """How videos are read, and what the model gets in their place."""

    send_as: Literal["frames", "video"] = "frames"
    """`frames`: an image block per frame, where the video is a block of its own in a message's content, and a video of
    such frames elsewhere. `video`: always a video (MP4), in the block's own shape."""
    max_frames: int = Field(default=8, ge=1, le=256)
    """Frames that the model gets, evenly spaced in time."""
    keep_sound: bool = False
    """Whether the sound goes along, for models that hear: as an audio block, or inside the new video."""
    animated_images: bool = False
    """Whether a GIF, WebP, PNG or AVIF that moves is taken as a video. Otherwise its first frame is an image."""


class MediaConfig(_Settings):
    """Which media are accepted."""

    on_unsupported: UnsupportedPolicy = "error"
    """What happens to media and blocks that cannot be guarded: refused, removed, or passed on unguarded."""
    limits: MediaLimits = Field(default_factory=MediaLimits)
    remote: RemotePolicy = Field(default_factory=RemotePolicy)
    pdf: PdfConfig = Field(default_factory=PdfConfig)
    video: VideoConfig = Field(default_factory=VideoConfig)


class SmoothGuardConfig(_Settings):
    """How the guard perturbs, asks and votes.

    The default noise is what a real reader of text and a real namer of objects can take (`benchmarks/field`). Images
    are also shifted at random. An attacker who knows the guard takes stronger noise than an unknown model may bear, so
    calibrate on yours. `paper()` is the published rule, `reference()` the choice for the shipped model, `text_safe()`
    that for documents and screens, `speech()` that for recordings of speech.

    Example:
        >>> config = SmoothGuardConfig(num_samples=6, image=ImageConfig(max_shift=3))
        >>> config.override(vote={"min_agreement": 0.6}).vote.min_agreement
        0.6
    """

    num_samples: int = Field(default=8, ge=1)
    """Most model calls per guarded request, including the clean one."""
    include_clean: bool = False
    """Whether one of them sees the media unperturbed."""
    sigma: float = Field(default=0.05, gt=0)
    """Standard deviation of the Gaussian noise on images, in units of `noise_space`."""
    noise_space: Literal["pixel", "normalized"] = "pixel"
    """`pixel`: values in [0, 1]. `normalized`: values divided by the model's standard deviation per channel."""
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    """Makes the noise repeatable; None: drawn from the operating system's entropy."""
    early_stop: Literal["lossless"] | float | None = "lossless"
    """`lossless`: stop when no answer still to come could change the winning cluster; a float: stop when the
    probability that one would is at most that; None: always ask `num_samples` times."""

    image: ImageConfig = Field(default_factory=ImageConfig)
    audio: AudioConfig = Field(default_factory=AudioConfig)
    vote: VoteConfig = Field(default_factory=VoteConfig)
    media: MediaConfig = Field(default_factory=MediaConfig)

    device: str = "auto"
    """Where noise is made: `auto` (the first available of cuda, mps and cpu) or a torch device."""
    max_concurrency: int | None = Field(default=None, ge=1)
    """Model calls in flight at once; None: all of a wave."""
    record_samples: bool = False
    """Whether the result includes the text of every sample."""
    trace_samples: bool | None = None
    """Whether each sample is a traced child run, which then reports its own tokens. None: yes, except in a
    `SmoothGuardChatModel`, whose own run reports the sum."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if isinstance(self.early_stop, float) and not 0 < self.early_stop < 0.5:
            raise ValueError(f"early_stop: expected a probability in (0, 0.5), got {self.early_stop}")
        required = self.vote.min_successes
        if required is not None and required > self.num_samples:
            raise ValueError(f"vote.min_successes: expected at most num_samples ({self.num_samples}), got {required}")
        if self.include_clean and (self.num_samples < 2 or required == 1):
            raise ValueError(
                "include_clean: expected num_samples and vote.min_successes of 2 or more, since the clean copy's answer"
                " on its own would be unguarded"
            )
        return self

    @property
    def settings_hash(self) -> str:
        """First 16 hexadecimal digits of a SHA-256 that names these settings in records.

        Of the canonical JSON (sorted keys, no spaces) of all settings but the seed: seeds are few enough to be found by
        trying, and who knows the seed knows the noise.

        Example:
            >>> SmoothGuardConfig(seed=1).settings_hash == SmoothGuardConfig().settings_hash
            True
        """
        settings = self.model_dump(mode="json", exclude={"seed"})
        canonical = json.dumps(settings, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def changed_settings(self) -> dict[str, Any]:
        """Return the settings that are not the defaults of this version, as plain JSON, without the seed.

        Example:
            >>> SmoothGuardConfig(sigma=0.2, vote=VoteConfig(min_agreement=0.6), seed=1).changed_settings()
            {'sigma': 0.2, 'vote': {'min_agreement': 0.6}}
        """
        return self.model_dump(mode="json", exclude={"seed"}, exclude_defaults=True)

    @classmethod
    def paper(cls, **changes: Any) -> Self:
        """Return the authors' rule as their code implements it.

        Ten noisy copies and the clean one, noise of 0.1 in normalized space and nothing else, K-means with k = 2,
        the larger cluster, the member nearest to its centroid, no benign score, no early stop, no abstention.

        Args:
            **changes: Settings to change; a mapping changes the named settings of a group.

        Source: arXiv 2510.26830, figure 1, and the authors' repository.
        """
        published = cls(
            num_samples=11,
            include_clean=True,
            sigma=0.1,
            noise_space="normalized",
            early_stop=None,
            image=ImageConfig(low_pass=0.0, max_shift=0, resize_range=None),
            vote=VoteConfig(
                rule="sentiment", clusterer="kmeans", benign_weight=0.0, min_agreement=0.0, on_abstain="answer"
            ),
        )
        return published.override(**changes)

    @classmethod
    def reference(cls, **changes: Any) -> Self:
        """Return the settings for the shipped reference model, chosen against adaptive attacks on it.

        The study (`benchmarks/study`) chose them on images that its published figures do not use.

        Args:
            **changes: Settings to change; a mapping changes the named settings of a group.
        """
        chosen = cls(
            num_samples=8,
            sigma=0.3,
            early_stop="lossless",
            image=ImageConfig(max_shift=5, max_rotation=8.0),
            vote=VoteConfig(refusal_share=0.125),
        )
        return chosen.override(**changes)

    @classmethod
    def text_safe(cls, **changes: Any) -> Self:
        """Return settings for documents and screens: less noise and, for unknown models, images of up to 2048 pixels.

        Measured on screens of small text (`benchmarks/field`): with this sigma, the default's, a text recogniser lost
        at most 2 points of the words of any screen, with 0.075 all words of one. The size is what lets it read text of
        16 pixels and less. A provider that shrinks the images weakens the noise, so measure what it still stops.

        Args:
            **changes: Settings to change; a mapping changes the named settings of a group.

        Example:
            >>> SmoothGuardConfig.text_safe(num_samples=5).image.resolution
            'legible'
        """
        return cls(sigma=0.05, image=ImageConfig(max_shift=5, resolution="legible")).override(**changes)

    @classmethod
    def speech(cls, **changes: Any) -> Self:
        """Return settings for recordings of speech, against attackers who know the guard.

        More noise, and each copy up to 15 % faster, at a random place. Measured on a transcriber (`benchmarks/field`):
        of 60 attacks that knew the settings 1 succeeded, through the default's noise 34; word errors rose by 4 points,
        by the default's noise by 1 to 4. Pitch, tempo and times change, so music and questions about time need
        `speed_range=None`.

        Args:
            **changes: Settings to change; a mapping changes the named settings of a group.

        Example:
            >>> SmoothGuardConfig.speech(num_samples=5).audio.speed_range
            (1.0, 1.15)
        """
        return cls(audio=AudioConfig(snr_db=15.0, speed_range=(1.0, 1.15))).override(**changes)

    @classmethod
    def from_file(cls, path: str | Path, **changes: Any) -> Self:
        """Read settings from a JSON file, as `smoothguard calibrate` writes it, or a TOML file.

        Args:
            path: The file; `.toml` is read as TOML, everything else as JSON.
            **changes: Settings to change; a mapping changes the named settings of a group.

        Raises:
            ConfigurationError: If the file cannot be read, or a setting is unknown or invalid; names the file.
        """
        path = Path(path)
        kind = "TOML" if path.suffix.lower() == ".toml" else "JSON"
        try:
            text = path.read_text(encoding="utf-8")
            values = tomllib.loads(text) if kind == "TOML" else json.loads(text)
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be read: {error.strerror or error}") from error
        except ValueError as error:
            raise ConfigurationError(f"{path} is not valid {kind}: {error}") from error
        if not isinstance(values, dict):
            raise ConfigurationError(f'{path}: expected an object of settings, such as {{"sigma": 0.2}}')
        try:
            return cls(**values).override(**changes)
        except ConfigurationError as error:
            raise ConfigurationError(f"{path}: {error}") from None


def require_config(config: SmoothGuardConfig | None) -> SmoothGuardConfig:
    """Return the configuration a host was given, or the default one.

    Raises:
        ConfigurationError: If it is anything but a `SmoothGuardConfig` or None.
    """
    if config is None:
        return SmoothGuardConfig()
    if not isinstance(config, SmoothGuardConfig):
        raise ConfigurationError(
            f"config: expected a SmoothGuardConfig, got {type(config).__name__}: use SmoothGuardConfig(**settings)"
        )
    return config


_ALTERNATIVES = ("float", "int")


def _describe(error: ValidationError, model: type[BaseModel]) -> str:
    return "; ".join(_describe_problem(problem, model) for problem in error.errors())


def _describe_problem(problem: Any, model: type[BaseModel]) -> str:
    # pydantic names the alternatives of a union as well, which says nothing to a user.
    names = [str(part) for part in problem["loc"] if str(part).isidentifier() and part not in _ALTERNATIVES]
    where = ".".join(names) + ": " if names else ""
    if problem["type"] == "extra_forbidden":
        return f"{where}unknown setting{_suggestion(names[-1], model)}"
    message = str(problem["msg"]).removeprefix("Value error, ").replace("Input should be", "expected")
    if problem["type"] == "value_error":
        return f"{where}{message}"
    return f"{where}{message[:1].lower()}{message[1:]}, got {_short(problem['input'])}"


def _suggestion(name: str, model: type[BaseModel]) -> str:
    known = _paths(model)
    close = get_close_matches(name, known, n=1) or get_close_matches(name, [path.split(".")[-1] for path in known], n=1)
    matches = [path for path in known if close and path.split(".")[-1] == close[0].split(".")[-1]]
    return f"; did you mean {matches[0]}?" if matches else ""


def _paths(model: type[BaseModel], prefix: str = "") -> list[str]:
    paths = []
    for name, field in model.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, BaseModel):
            paths.extend(_paths(group, f"{prefix}{name}."))
        else:
            paths.append(f"{prefix}{name}")
    return paths


def _name(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
