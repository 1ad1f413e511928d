import io
import math
import struct

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import resample_poly

from smoothguard_guardrail.errors import MediaError, MediaLimitError, UnsupportedMediaError
from smoothguard_guardrail.media import audio
from smoothguard_guardrail.media.audio import decode_audio, decode_waveform, encode_audio, resample, waveform_like
from smoothguard_guardrail.media.formats import AUDIO_FORMATS, sniff
from tests.media import corpus

PATH = "messages[0].content[1]"


def decode(data: bytes, max_seconds: float = 10.0) -> tuple[torch.Tensor, int]:
    sniffed = sniff(data)
    assert sniffed is not None
    heard = decode_audio(data, mime_type=sniffed.mime_type, max_seconds=max_seconds, path=PATH)
    return heard.waveform, heard.sampling_rate


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    ("mode", "options", "tolerance"),
    [
        ("WAV", {}, 1e-4),
        ("WAV", {"subtype": "FLOAT"}, 1e-6),
        ("WAV", {"subtype": "PCM_U8"}, 0.01),
        ("FLAC", {}, 1e-4),
        ("OGG", {"subtype": "VORBIS"}, 0.2),
        ("OGG", {"subtype": "OPUS"}, 1.0),
        ("MP3", {}, None),
    ],
)
def test_formats_keep_channels_and_rate(mode: str, options: dict, tolerance: float | None, channels: int) -> None:
    waveform, rate = decode(corpus.record(mode, channels, **options))
    assert rate == corpus.SAMPLING_RATE
    assert waveform.dtype == torch.float32
    assert waveform.shape[0] == channels
    if tolerance is not None:
        assert waveform.shape[1] == len(corpus.WAVEFORM)
        assert (waveform - torch.from_numpy(corpus.WAVEFORM)).abs().max() <= tolerance


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 2), st.integers(1, 500), st.sampled_from([8_000, 16_000, 44_100]), st.integers(0, 2**31))
def test_encoding_rounds_to_sixteen_bits(channels: int, samples: int, rate: int, seed: int) -> None:
    waveform = torch.rand(channels, samples, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    again, same_rate = decode(encode_audio(waveform, rate).data)
    assert same_rate == rate
    assert (again - waveform).abs().max() < 1e-4


def test_length_is_limited_in_the_header_and_while_decoding() -> None:
    with pytest.raises(MediaLimitError, match="longer than"):
        decode(corpus.WAV, max_seconds=0.09)
    silence = io.BytesIO()
    soundfile.write(silence, np.zeros((192_000 * 8, 8), np.int16), 192_000, format="FLAC")
    with pytest.raises(MediaLimitError, match="longer than"):
        decode(silence.getvalue())  # 8 s, but of so many values that they count as more


@pytest.mark.parametrize(("channels", "rate"), [(9, 16_000), (1, 400_000)])
def test_channels_and_rate_are_limited(channels: int, rate: int) -> None:
    header = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + 36, b"WAVE", b"fmt ", 16, 1, channels, rate,
                         rate * channels * 2, channels * 2, 16, b"data", 36)  # fmt: skip
    with pytest.raises(MediaLimitError, match="are allowed"):
        decode(header + bytes(36))


def test_empty_and_damaged_audio_files_are_errors() -> None:
    with pytest.raises(MediaError, match="empty"):
        decode(encode_audio(torch.zeros(1, 0), 8_000).data)
    for data in (corpus.WAV[:20], corpus.record("FLAC")[:60], corpus.record("OGG")[:80]):
        with pytest.raises(MediaError, match=r"messages\[0\].content\[1\]"):
            decode(data)


@settings(max_examples=150, deadline=None)
@given(
    mode=st.sampled_from(["WAV", "FLAC", "OGG", "MP3"]),
    changes=st.lists(st.tuples(st.integers(4, 600), st.integers(0, 255)), max_size=12),
    length=st.integers(12, 3_000),
)
def test_hostile_audio_files_decode_or_raise_media_errors(mode: str, changes: list, length: int) -> None:
    data = bytearray(corpus.record(mode)[:length])
    for position, value in changes:
        if position < len(data):
            data[position] = value
    sniffed = sniff(data)
    if sniffed is None or sniffed.mime_type not in AUDIO_FORMATS:
        return
    try:
        waveform, _ = decode(bytes(data), max_seconds=2)
    except MediaError:
        return
    assert waveform.ndim == 2
    assert waveform.abs().max() <= 1


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF], ids=hex)
@pytest.mark.parametrize("extra", [b"", b"LIST\x04\0\0\0abcd", b"junk\x03\0\0\0abc\0"])
def test_a_wav_that_was_streamed_is_heard_to_its_end(size: int, extra: bytes) -> None:
    at = corpus.WAV.index(b"data")
    unknown = size.to_bytes(4, "little")
    streamed = corpus.WAV[:4] + unknown + corpus.WAV[8:at] + extra + b"data" + unknown + corpus.WAV[at + 8 :]
    assert torch.equal(decode(streamed)[0], decode(corpus.WAV)[0])


@pytest.mark.parametrize("total", [0, 2**36 - 1, 1_000_000])
def test_a_flac_that_was_streamed_is_heard_to_its_end(total: int) -> None:
    flac = corpus.record("FLAC")
    stated = int.from_bytes(flac[21:26], "big") >> 36 << 36 | total
    heard = decode(flac[:21] + stated.to_bytes(5, "big") + flac[26:], max_seconds=100.0)
    assert torch.equal(heard[0], decode(flac)[0])


@pytest.mark.parametrize(
    ("rate", "new_rate"), [(8_000, 8_000), (48_000, 16_000), (44_100, 16_000), (8_000, 16_000), (11_025, 9_999)]
)
def test_block_by_block_sounds_like_all_at_once(rate: int, new_rate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio, "_BLOCK", 1_000)
    waveform = torch.rand(2, 3 * rate + 17, generator=torch.Generator().manual_seed(0)) - 0.5
    blockwise = resample(waveform, rate, new_rate)
    divisor = math.gcd(rate, new_rate)
    whole = resample_poly(waveform.mean(dim=0).numpy(), new_rate // divisor, rate // divisor)
    assert blockwise.shape == (1, len(whole))
    assert np.abs(blockwise[0].numpy() - whole).max() < 1e-5


def test_waveforms_in_process() -> None:
    for original in (corpus.WAVEFORM, torch.zeros(2, 100), torch.zeros(1, 100, dtype=torch.float64)):
        waveform, rate, _ = decode_waveform(original, sampling_rate=8_000, max_seconds=1, path=PATH)
        assert rate == 8_000
        assert waveform.ndim == 2
        again = waveform_like(waveform, original)
        assert type(again) is type(original)
        assert (again.shape, again.dtype) == (original.shape, original.dtype)
    for bad in (torch.zeros(2, 2, 2), torch.full((1, 9), 2.0), torch.zeros(1, 9, dtype=torch.int16), [0.0]):
        with pytest.raises(UnsupportedMediaError):
            decode_waveform(bad, sampling_rate=8_000, max_seconds=1, path=PATH)
    with pytest.raises(MediaLimitError):
        decode_waveform(torch.zeros(1, 9_000), sampling_rate=8_000, max_seconds=1, path=PATH)
