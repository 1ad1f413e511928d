"""What reaches the model: as strong as asked for, at the resolution that it sees, and never untouched."""

from __future__ import annotations

import base64
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from smoothguard_guardrail import (
    AdapterError,
    GuardComponents,
    ImageConfig,
    MediaLimitError,
    SmoothGuardConfig,
    UnsupportedMediaError,
    VideoConfig,
)
from smoothguard_guardrail.config import MediaConfig, MediaLimits
from smoothguard_guardrail.core.model_info import ModelInfo
from smoothguard_guardrail.core.model_input import GuardView, ModelInput
from smoothguard_guardrail.core.provider_sizes import shortest_side
from smoothguard_guardrail.core.request_perturber import RequestPerturber
from smoothguard_guardrail.media import prepare, scan, video_file
from smoothguard_guardrail.media.image import decode_image
from smoothguard_guardrail.media.video import decode_video
from smoothguard_guardrail.perturbations import CLIP_STD, GaussianNoise, LowPass, RandomShift, make_generator
from tests.helpers import config_of, image_block, pixels, png, question
from tests.media import corpus
from tests.media.recorded import record_video

AUDIO = {"type": "input_audio", "input_audio": {"data": corpus.WAV64, "format": "wav"}}


def perturber(
    *blocks: Any, model_info: ModelInfo | None = None, custom: Any = None, seed: int = 0, **changes: Any
) -> RequestPerturber:
    config = config_of(**{"low_pass": 0.0, "max_shift": 0} | changes)
    model_info = model_info or ModelInfo()
    prepared = prepare(question(*blocks), config.media, ModelInput(config=config, model_info=model_info))
    components = GuardComponents(image_perturber=custom, audio_perturber=custom)
    return RequestPerturber(prepared, config=config, model_info=model_info, components=components, seed=seed)


def sees(side: int, **facts: Any) -> ModelInfo:
    """Return a model that resizes images so that the shorter side has a length."""
    return ModelInfo(image_input_size=partial(shortest_side, side=side), **facts)


def pictures(made: RequestPerturber, count: int = 2) -> list[np.ndarray]:
    return [pixels(found.value) for request in made.render(0, count) for found in scan(request)]


@pytest.mark.parametrize("noise_space", ["pixel", "normalized"])
@pytest.mark.parametrize("resolution", [None, "auto"])
@pytest.mark.parametrize("side", [224, 1024, pytest.param(2500, marks=pytest.mark.slow)])
def test_noise_arrives_at_the_sd_that_was_asked_for(side: int, resolution: Any, noise_space: str) -> None:
    made = perturber(image_block(png(side, side)), sigma=0.1, noise_space=noise_space, resolution=resolution)
    arrived = pictures(made, 1)[0]
    expected = [0.1] * 3 if noise_space == "pixel" else [0.1 * std for std in CLIP_STD]
    seen = side if resolution is None else min(side, 1024)
    assert arrived.shape == (seen, seen, 3)
    for channel, sd in enumerate(expected):
        assert arrived[..., channel].std() == pytest.approx(sd, rel=0.05)
    (record,) = made.records()
    assert record.noise_sd == pytest.approx(np.sqrt(np.mean(np.square(expected))), rel=0.05)
    assert (record.size, record.perturbed_size) == ((side, side), (seen, seen))


DIALECTS = [
    {"type": "image", "base64": corpus.base64.b64encode(png(64, 64)).decode(), "mime_type": "image/png"},
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image_block(png(64, 64))['base64']}"}},
    {"type": "input_image", "image_url": f"data:image/png;base64,{image_block(png(64, 64))['base64']}"},
    {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": image_block(png(64, 64))["base64"]},
    },
    {"inlineData": {"mimeType": "image/png", "data": image_block(png(64, 64))["base64"]}},
    {"image": {"format": "png", "source": {"bytes": png(64, 64)}}},
    {"type": "image", "data": image_block(png(64, 64))["base64"], "mimeType": "image/png"},
]


@pytest.mark.parametrize("block", DIALECTS, ids=["v1", "openai", "responses", "anthropic", "google", "bedrock", "mcp"])
def test_every_dialect_delivers_the_noise(block: dict[str, Any]) -> None:
    arrived = pictures(perturber(block, sigma=0.1), 4)
    assert len(arrived) == 4
    assert np.std(arrived) == pytest.approx(0.1, rel=0.05)


def test_recordings_get_their_ratio_or_their_sd() -> None:
    (by_ratio,) = perturber(AUDIO, snr_db=20.0).records()
    assert by_ratio.noise_sd is None  # nothing was made yet
    for changes, sd in (
        ({"snr_db": 20.0}, float(np.sqrt(np.mean(corpus.WAVEFORM**2))) / 10),
        ({"audio": {"snr_db": None, "sigma": 0.05}}, 0.05),
    ):
        made = perturber(AUDIO, **changes)
        made.render(0, 3)
        (record,) = made.records()
        assert record.noise_sd == pytest.approx(sd, rel=0.05)
        assert (record.perturbed_size, record.duration) == (None, pytest.approx(0.1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "facts", "resolution", "seen"),
    [
        ((40, 20), sees(32), "auto", (64, 32)),
        ((400, 800), sees(32), "auto", (32, 64)),
        ((40, 20), sees(32), None, (40, 20)),
        ((40, 20), sees(32), 16, (16, 8)),
        ((40, 20), ModelInfo(), 64, (40, 20)),
        ((2048, 1500), ModelInfo(), "auto", (1024, 750)),
        ((1600, 1200), ModelInfo(), "legible", (1600, 1200)),
        ((4000, 2400), ModelInfo(), "legible", (2048, 1229)),
        ((400, 800), sees(32), "legible", (32, 64)),
    ],
    ids=range(9),
)
def test_noise_is_made_at_the_resolution_that_the_model_sees(
    size: tuple[int, int], facts: ModelInfo, resolution: Any, seen: tuple[int, int]
) -> None:
    made = perturber(image_block(png(*size)), model_info=facts, resolution=resolution)
    assert pictures(made, 1)[0].shape == (seen[1], seen[0], 3)
    assert made.records()[0].perturbed_size == seen


@pytest.mark.slow
@pytest.mark.parametrize("resolution", ["auto", "legible"])
def test_long_pages_go_in_the_same_bands_wherever_text_must_stay_legible(resolution: Any) -> None:
    page = perturber(image_block(png(1280, 3000)), resolution=resolution)
    assert [picture.shape for picture in pictures(page, 1)] == [(1024, 1024, 3)] * 3
    assert page.records()[0].perturbed_size == (1024, 2400)


def test_a_line_of_pixels_does_not_grow_to_gigabytes() -> None:
    line = image_block(png(20_000, 1))
    with pytest.raises(MediaLimitError, match=r"messages\[0\]\.content\[1\]: is 20000 x 1 pixels"):
        perturber(line, model_info=sees(336))
    assert pictures(perturber(line, model_info=sees(336), resolution=64), 1)[0].shape == (1, 64, 3)


def test_the_same_seed_gives_the_same_bytes_whatever_else_was_made() -> None:
    first, second = perturber(image_block(), AUDIO, seed=4), perturber(image_block(), AUDIO, seed=4)
    second.render(0, 3)
    assert str(first.render(3, 2)) == str(second.render(3, 2))
    assert str(first.render(0, 2)) != str(perturber(image_block(), AUDIO, seed=5).render(0, 2))


def test_the_clean_copy_is_the_first_sample_alone() -> None:
    made = perturber(image_block(), include_clean=True)
    alone, first, later = made.render(0, 1), made.render(0, 2), made.render(2, 2)
    clean = pixels(png())
    found = [pixels(scan(request)[0].value) for request in (*alone, *first, *later)]
    assert [np.array_equal(each, clean) for each in found] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert made.records()[0].noise_sd is not None


def test_tensors_stay_tensors_and_may_be_used_like_any() -> None:
    made = perturber(image_block(), AUDIO, model_info=ModelInfo(accepts_tensors=True))
    (request,) = made.render(0, 1)
    _, picture, recording = request[0].content
    assert (picture["image"].shape, picture["image"].dtype) == ((3, 12, 16), torch.float32)
    assert (recording["audio"].shape, recording["sampling_rate"]) == ((1, 1600), corpus.SAMPLING_RATE)
    assert not picture["image"].is_inference()  # a processor may change it in place
    picture["image"].sub_(0.5)


def test_facts_are_read_off_the_model() -> None:
    class Model:
        accepts_tensors = True
        image_std = (0.5, 0.5, 0.5)
        sampling_rate = 16_000

        def image_input_size(self, height: int, width: int) -> tuple[int, int]:
            return height, 64

    found = ModelInfo.find(Model())
    assert (found.accepts_tensors, found.image_std, found.sampling_rate) == (True, (0.5, 0.5, 0.5), 16_000)
    assert found.image_input_size is not None
    assert (found.image_input_size(9, 9), found.known_by) == ((9, 64), "measurement")
    assert ModelInfo.find(object()) == ModelInfo()
    config = SmoothGuardConfig(sigma=0.1, image=ImageConfig(low_pass=0.0, max_shift=0), noise_space="normalized")
    assert ModelInput(config=config, model_info=found).image_perturber().parts[0].sigma == pytest.approx((0.05,) * 3)


# --- A perturber of the user's


def test_a_plain_function_takes_the_place_of_everything() -> None:
    seen = []

    def invert(batch: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
        seen.append((tuple(batch.shape), generator.device, batch.is_contiguous()))
        return batch.neg_().add_(1.0) if batch.ndim == 4 else batch.neg_()  # in place, which is nobody's business

    made = perturber(image_block(png(level=51)), AUDIO, custom=invert, sigma=0.5, max_shift=5)
    requests = made.render(0, 2)
    assert seen == [((2, 3, 12, 16), torch.device("cpu"), True), ((2, 1, 1600), torch.device("cpu"), True)]
    for request in requests:
        assert pixels(scan(request)[0].value) == pytest.approx(0.8, abs=0.01)
    assert made.records()[0].noise_sd == pytest.approx(0.6, abs=0.01)
    assert str(made.render(2, 2)) == str(requests)  # the original is not what was changed


def test_other_precisions_come_in_as_float32() -> None:
    def half(batch: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
        return (batch * 0.5).to(torch.float16)

    made = perturber(image_block(), custom=half, model_info=ModelInfo(accepts_tensors=True))
    assert made.render(0, 1)[0][0].content[1]["image"].dtype == torch.float32


def fails(batch: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
    raise OSError("out of order")


def all_but_one(batch: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
    noisy = GaussianNoise(0.1)(batch, generator=generator)
    noisy[1] = batch[1]
    return noisy


@pytest.mark.parametrize(
    ("custom", "message"),
    [
        (fails, "the image perturber failed: OSError: out of order"),
        (lambda batch: batch, "the image perturber failed: TypeError"),
        (lambda batch, generator: batch, r"messages\[0\]\.content\[1\]: the image perturber returned a copy unchanged"),
        (lambda batch, generator: batch.clone(), "unchanged"),
        (all_but_one, "unchanged"),
        (lambda batch, generator: None, "got NoneType"),
        (lambda batch, generator: batch.tolist(), "got list"),
        (lambda batch, generator: batch[:1] / 2, r"shape \(2, 3, 12, 16\), got \(1, 3, 12, 16\)"),
        (lambda batch, generator: batch[..., :4] / 2, "shape"),
        (lambda batch, generator: batch * float("nan"), r"finite floating-point values in \[0, 1\]"),
        (lambda batch, generator: batch + 1, r"\[0, 1\]"),
        (lambda batch, generator: batch - 1, r"\[0, 1\]"),
        (lambda batch, generator: (batch > 0.7).int(), "floating-point"),
    ],
    ids=range(13),
)
def test_broken_perturbers_are_refused(custom: Any, message: str) -> None:
    with pytest.raises(AdapterError, match=message):
        perturber(image_block(), custom=custom).render(0, 2)


def test_parts_of_ours_compose_with_those_of_users() -> None:
    def shifted(batch: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
        return LowPass(0.5)(
            GaussianNoise(0.1)(RandomShift(2)(batch, generator=generator), generator=generator), generator=generator
        )

    assert len(pictures(perturber(image_block(), custom=shifted), 3)) == 3


@pytest.mark.parametrize("size", [(96, 96), (140, 200), (60, 50)])
@pytest.mark.parametrize("resolution", ["auto", 48, None])
def test_an_attack_can_go_through_what_the_guard_shows_the_model(size: tuple[int, int], resolution: Any) -> None:
    changes: dict[str, Any] = {"resolution": resolution, "resize_range": (0.8, 1.0), "low_pass": 1.0, "max_shift": 6}
    facts, picture = sees(96, accepts_tensors=True), png(*size)
    requests = perturber(image_block(picture), model_info=facts, seed=5, **changes).render(0, 3)
    shown = torch.stack([found.value for request in requests for found in scan(request)])
    batch = decode_image(picture, mime_type="image/png", limits=MediaLimits(), path="").unit.repeat(3, 1, 1, 1)
    batch.requires_grad_()
    seen = GuardView(config=config_of(**changes), model_info=facts)(batch, generator=make_generator(5, 0, 0))
    # The guard resizes in whole levels of 255.
    assert torch.allclose(seen.detach(), shown, atol=0.0 if size == (96, 96) else 2.5 / 255)
    (gradient,) = torch.autograd.grad(seen.square().sum(), batch)
    assert (gradient.abs().amax(dim=(1, 2, 3)) > 0).all()


def test_audio_at_a_random_speed_is_what_an_attack_goes_through() -> None:
    audio = {"snr_db": 40.0, "speed_range": (1.0, 1.5)}
    facts = ModelInfo(accepts_tensors=True, sampling_rate=corpus.SAMPLING_RATE)
    made = perturber(AUDIO, model_info=facts, seed=5, audio=audio)
    shown = torch.stack([request[0].content[-1]["audio"] for request in made.render(0, 4)])
    original = made.clean()[0].content[-1]["audio"]
    lengths = {int((copy.abs() > 0.1 * copy.abs().max()).sum()) for copy in shown}
    assert len(lengths) == 4, "every copy has a speed of its own"
    assert shown.shape == (4, *original.shape)
    view = GuardView(config=config_of(audio=audio), model_info=facts)
    clean = original.expand(4, *original.shape).clone().requires_grad_()
    seen = torch.cat([view(clean[:1], generator=make_generator(7)) for _ in range(4)])
    (gradient,) = torch.autograd.grad(seen.square().sum(), clean)
    assert gradient[0].abs().max() > 0
    perturb = ModelInput(config=config_of(audio=audio), model_info=facts).audio_perturber(original)
    assert torch.equal(perturb(original.expand(4, *original.shape), generator=make_generator(5, 0, 0)), shown)


def film(**encoder: Any) -> dict[str, Any]:
    """Return a block with a video of four equal frames of medium grey."""
    frames = [np.full((96, 128, 3), 128, np.uint8)] * 4
    return {"type": "video", "base64": base64.b64encode(record_video(frames, **encoder)).decode()}


def test_every_frame_of_a_video_has_noise_of_its_own() -> None:
    made = perturber(film(), sigma=0.1)
    frames = pictures(made, 2)
    assert len({frame.tobytes() for frame in frames}) == 8
    for first, second in pairwise(frames):
        noise = np.stack([first - first.mean(), second - second.mean()]).reshape(2, -1)
        assert abs(np.corrcoef(noise)[0, 1]) < 0.03
    assert [record.noise_sd for record in made.records()] == pytest.approx([0.1] * 4, rel=0.03)


def test_the_noise_that_a_new_video_keeps_is_recorded() -> None:
    made = perturber(film(), sigma=0.1, video=VideoConfig(send_as="video"))
    [request] = made.render(0, 1)
    [found] = scan(request)
    video = decode_video(
        base64.b64decode(found.value), mime_type="video/mp4", config=VideoConfig(), limits=MediaLimits(), path=""
    )
    arrived = [float(frame.image.unit.std()) for frame in video.frames]
    assert [record.effective_sd for record in made.records()] == pytest.approx(arrived, rel=0.05)
    assert made.render(1, 1) == perturber(film(), sigma=0.1, video=VideoConfig(send_as="video")).render(1, 1)


def test_a_new_video_that_keeps_too_little_of_the_noise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_file, "_QUALITY", {"crf": "51"})
    made = perturber(film(), sigma=0.1, video=VideoConfig(send_as="video"))
    with pytest.raises(
        UnsupportedMediaError, match=r"^messages\[0\]\.content\[1\]: a new video leaves only \d+% of the"
    ):
        made.render(0, 1)


def paper(data: bytes = corpus.PDF) -> dict[str, Any]:
    return {"type": "file", "base64": base64.b64encode(data).decode(), "mime_type": "application/pdf"}


def pages_of(made: RequestPerturber, *, count: int = 1) -> list[list[Any]]:
    """Return the images of every request, whether they are blocks or the pages of a PDF."""
    return [[medium.tensor for medium in prepare(request, MediaConfig()).media] for request in made.render(0, count)]


@pytest.mark.parametrize("send_as", ["images", "pdf"])
def test_every_page_of_a_pdf_has_noise_of_its_own(send_as: str) -> None:
    white = corpus.pdf(b"1 g 0 0 32 24 re f", b"0.5 g 0 0 32 24 re f", b"0.5 g 0 0 32 24 re f")
    media = {"pdf": {"send_as": send_as, "dpi": 72}}
    made = perturber(paper(white), model_info=sees(24), sigma=0.1, media=media)
    first, second = pages_of(made, count=2)
    grey = [each[:, :24, :32] - each.mean() for each in (*first[1:], *second[1:])]
    assert len({tuple(each[:, :9, :9].flatten().tolist()) for each in grey}) == 4
    for record, each in zip(made.records()[1:], first[1:], strict=True):
        assert (record.mime_type, record.size, record.perturbed_size) == ("application/pdf", (32, 24), (32, 24))
        assert record.noise_sd == pytest.approx(0.1, rel=0.1)
        assert record.effective_sd == (record.noise_sd if send_as == "images" else None)
        assert record.size_known_by == (made._input.model_info.known_by if send_as == "images" else "nothing")
        assert 0.05 < float(each.std()) < 0.12
    [again, _] = pages_of(perturber(paper(white), model_info=sees(24), sigma=0.1, media=media), count=2)
    assert all(map(torch.equal, first, again))


def test_a_model_that_takes_tensors_gets_pages_as_tensors() -> None:
    made = perturber(paper(), model_info=sees(24, accepts_tensors=True), media={"pdf": {"send_as": "pdf"}})
    [[message]] = made.render(0, 1)
    assert [block["type"] for block in message.content] == ["text", "text", "image", "text", "image"]
    assert [tuple(block["image"].shape) for block in message.content[2::2]] == [(3, 24, 32)] * 2
    assert all(record.effective_sd is not None for record in made.records())


@pytest.mark.slow
@pytest.mark.parametrize("send_as", ["images", "pdf"])
def test_a_long_page_of_a_pdf_goes_in_bands(send_as: str) -> None:
    long = corpus.pdf(b"", page=b"/MediaBox[0 0 300 3000]")
    made = perturber(paper(long), media={"pdf": {"send_as": send_as, "dpi": 72}})
    [bands] = pages_of(made)
    assert {max(band.shape) for band in bands} == {1024 if send_as == "images" else 2134}
    assert made.records()[0].notes == (f"sent in {len(bands)} bands",)
