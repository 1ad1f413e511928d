"""Opens containers of video and audio with FFmpeg (PyAV), so that a hostile file reaches nothing outside of itself.

The format is forced to the one that was sniffed, so no playlist is ever read; every other file or URL that a container
asks for is refused; and only common codecs are decoded.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np

from smoothguard_guardrail.errors import MediaError, MediaLimitError, UnsupportedMediaError
from smoothguard_guardrail.media.extra import import_decoder
from smoothguard_guardrail.media.formats import CONTAINER_FORMATS
from smoothguard_guardrail.media.image import check_pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from smoothguard_guardrail.config import MediaLimits

MAX_STREAMS = 16
_BYTES_PER_PIXEL = 48
"""Memory that decoding a video takes at most, by the pixels of a frame: H.264 may keep sixteen frames."""
_BLOCK = 2**16
"""Samples that are joined before they are handed on: containers hold about a thousand in a packet."""
_VIDEO_CODECS = (
    *("h264", "hevc", "vp8", "vp9", "libdav1d", "av1", "mpeg4", "mpeg2video", "mpeg1video", "h263", "flv"),
    *("msmpeg4", "msmpeg4v2", "wmv1", "wmv2", "wmv3", "vc1", "theora", "mjpeg", "ffv1", "prores"),
)
_AUDIO_CODECS = (
    *("aac", "mp3float", "mp3", "mp2float", "mp2", "opus", "libopus", "vorbis", "flac", "alac", "ac3", "eac3"),
    *("libopencore_amrnb", "libopencore_amrwb", "amrnb", "amrwb", "wmav1", "wmav2", "pcm_alaw", "pcm_mulaw"),
    *("pcm_u8", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_f32le", "adpcm_ima_qt"),
)


class Streams(NamedTuple):
    """The streams of an open container that a model would be given."""

    container: Any
    video: Any | None
    audio: Any | None
    notes: tuple[str, ...]


@contextmanager
def opened(data: bytes, *, mime_type: str, keep_sound: bool, limits: MediaLimits, path: str) -> Iterator[Streams]:
    """Open a container and choose its streams: at most one of video and one of audio.

    Subtitles, attachments, cover images and data are left out, and noted. What FFmpeg raises while the container is
    open becomes a `MediaError`.

    Args:
        data: The encoded file.
        mime_type: As sniffed from the bytes, a key of `CONTAINER_FORMATS`.
        keep_sound: Whether the sound beside video is chosen; without video it always is.
        limits: On the pixels of a frame and on memory; FFmpeg refuses to decode frames that are over them.
        path: Path of the block, for the error.

    Raises:
        UnsupportedMediaError: PyAV is missing, a codec is not decoded, or there are several streams of a kind.
        MediaLimitError: It has too many streams, or is over a limit.
        MediaError: It is damaged, or has neither video nor audio.
    """
    av = import_decoder("av", "av", mime_type=mime_type, path=path)
    codecs = ",".join((*_VIDEO_CODECS, *_AUDIO_CODECS))
    most = min(limits.max_pixels, limits.max_decoding_mib * 2**20 // _BYTES_PER_PIXEL)
    options = {"max_pixels": str(most), "max_streams": "100", "codec_whitelist": codecs}
    try:
        with av.open(
            io.BytesIO(data),
            format=CONTAINER_FORMATS[mime_type],
            options=options | {"protocol_whitelist": "none"},
            io_open=_refuse,
            metadata_errors="ignore",
        ) as container:
            streams = _streams(container, keep_sound, path)
            if streams.video is not None:
                _check_size(streams.video.codec_context, limits, path)
                streams.video.codec_context.options = {"max_pixels": str(most)}
            yield streams
    except MediaError:
        raise
    except Exception as error:  # FFmpegError, and what PyAV raises on hostile headers
        raise MediaError(
            f"the file cannot be decoded: it begins like {mime_type}, but is damaged", path=path
        ) from error


def audio_blocks(streams: Streams, path: str) -> tuple[int, int, Iterator[NDArray[np.float32]]]:
    """Return the sampling rate in Hz, the number of channels, and blocks (samples, channels) of the audio stream.

    Rate and channels are those of the first decoded block, whatever the header says.

    Raises:
        MediaError: It has no sound, or its rate or channels change on the way.
    """
    frames = _decoded(streams)
    first = next(frames, None)
    if first is None:
        raise MediaError("the audio is empty", path=path)
    rate, channels = int(first.sample_rate), len(first.layout.channels)

    def blocks() -> Iterator[NDArray[np.float32]]:
        held, size = [_samples(first)], 0
        for frame in frames:
            if (frame.sample_rate, len(frame.layout.channels)) != (rate, channels):
                raise MediaError("its sampling rate or channels change on the way", path=path)
            held.append(_samples(frame))
            size += frame.samples
            if size >= _BLOCK:
                yield np.concatenate(held)
                held, size = [], 0
        if held:
            yield np.concatenate(held)

    return rate, channels, blocks()


def stated_seconds(stream: Any) -> float:
    """Return how long a stream says it is; 0 where it does not."""
    return float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0


def _refuse(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    raise PermissionError("it asks for another file")


def _streams(container: Any, keep_sound: bool, path: str) -> Streams:
    from av.stream import Disposition

    if len(container.streams) > MAX_STREAMS:
        raise MediaLimitError(f"has more than {MAX_STREAMS} streams", path=path)
    videos = [each for each in container.streams.video if not each.disposition & Disposition.attached_pic]
    video = _only(videos, "video", path)
    audio = _only(list(container.streams.audio), "audio", path) if keep_sound or video is None else None
    if video is None and audio is None:
        raise MediaError("it holds neither video nor audio", path=path)
    for stream, codecs in ((video, _VIDEO_CODECS), (audio, _AUDIO_CODECS)):
        if stream is None:
            continue
        if stream.codec_context is None or stream.codec_context.name not in codecs:
            name = stream.codec_context.name if stream.codec_context else "unknown"
            raise UnsupportedMediaError(f"its {stream.type} codec ({name}) is not decoded", path=path)
    others = [each.type or "unknown" for each in container.streams if each not in (video, audio)]
    notes = tuple(f"{kind} streams left out: {others.count(kind)}" for kind in sorted(set(others)))
    return Streams(container, video, audio, notes)


def _check_size(codec: Any, limits: MediaLimits, path: str) -> None:
    check_pixels((codec.width, codec.height), limits.max_pixels, path)
    mib = codec.width * codec.height * _BYTES_PER_PIXEL / 2**20
    if mib > limits.max_decoding_mib:
        raise MediaLimitError(
            f"is a {codec.width} x {codec.height} video: decoding takes up to {mib:.0f} MiB, at most"
            f" {limits.max_decoding_mib} are allowed",
            path=path,
        )


def _only(streams: list[Any], kind: str, path: str) -> Any | None:
    if len(streams) > 1:
        raise UnsupportedMediaError(
            f"it has {len(streams)} {kind} streams, and models differ in which one they take", path=path
        )
    return streams[0] if streams else None


def _decoded(streams: Streams) -> Iterator[Any]:
    if streams.audio is not None:
        yield from streams.container.decode(streams.audio)


def _samples(frame: Any) -> NDArray[np.float32]:
    """Return the samples of an audio frame in [-1, 1], (samples, channels)."""
    values: NDArray[Any] = frame.to_ndarray()
    channels = len(frame.layout.channels)
    values = values.T if frame.format.is_planar else values.reshape(-1, channels)
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    middle = 128 if values.dtype == np.uint8 else 0
    return np.divide(values.astype(np.float32) - middle, 2.0 ** (8 * values.dtype.itemsize - 1), dtype=np.float32)
