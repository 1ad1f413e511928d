"""Video: from bytes to a few frames and the sound, under limits on everything that a file may claim or cost."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from smoothguard_guardrail.errors import MediaError, MediaLimitError
from smoothguard_guardrail.media.audio import DecodedAudio, join_blocks
from smoothguard_guardrail.media.ffmpeg import audio_blocks, opened, stated_seconds
from smoothguard_guardrail.media.formats import IMAGE_FORMATS
from smoothguard_guardrail.media.image import DecodedImage, decode_pillow, without_metadata

if TYPE_CHECKING:
    from smoothguard_guardrail.config import MediaLimits, VideoConfig
    from smoothguard_guardrail.media.audio import RateRule
    from smoothguard_guardrail.media.image import SizeRule

ANIMATED = {"image/gif", "image/webp", "image/png", "image/avif"}
"""Image formats that may move; the pages of a TIFF are no frames."""
MAX_FRAMES = 100_000
"""Most frames of a file: ten minutes at 160 frames per second."""


class Frame(NamedTuple):
    """One frame of a video, upright."""

    image: DecodedImage
    seconds: float
    """When it is shown, from the start of the video."""


class DecodedVideo(NamedTuple):
    """The frames of a video that are sent, and its sound."""

    frames: tuple[Frame, ...]
    """At least one, unless the file holds only sound."""
    sound: DecodedAudio | None
    """None where there is none, or where it is left out."""
    notes: tuple[str, ...]


class _Packet(NamedTuple):
    """Encoded data of one frame, in the order in which frames are decoded."""

    shown: int
    """When its frame is shown, in the stream's units."""
    is_key: bool
    packet: Any


def decode_video(
    data: bytes,
    *,
    mime_type: str,
    config: VideoConfig,
    limits: MediaLimits,
    path: str,
    wanted: SizeRule | None = None,
    wanted_rate: RateRule | None = None,
) -> DecodedVideo:
    """Decode frames of a video, evenly spaced in time, the first and the last included, and its sound.

    A file without video is audio: its sound is then always decoded.

    Args:
        data: The encoded file.
        mime_type: As sniffed from the bytes, a key of `CONTAINER_FORMATS`.
        config: How many frames, and whether the sound is kept.
        limits: On pixels, seconds, memory and work; the header is not relied on.
        path: Path of the block, for the error.
        wanted: The size to return frames at, which saves memory; None: their own.
        wanted_rate: The rate to return sound at, as one channel; None: its own channels and rate.

    Raises:
        UnsupportedMediaError: PyAV is missing, a codec is not decoded, or there are several streams of a kind.
        MediaLimitError: It is over a limit.
        MediaError: It is damaged, or has no frames.
    """
    frames: tuple[Frame, ...] = ()
    sound = None
    how: dict[str, Any] = {"mime_type": mime_type, "keep_sound": config.keep_sound, "limits": limits, "path": path}
    with opened(data, **how) as streams:
        notes, has_sound = streams.notes, streams.audio is not None
        if streams.video is not None:
            packets = _packets(streams.container, streams.video, limits, path)
            frames = tuple(_frames(streams.video, packets, config, limits, path, wanted))
            notes += (f"{len(frames)} of {len(packets)} frames",)
    if has_sound:
        with opened(data, **how) as streams:  # it was read to its end
            rate, channels, blocks = audio_blocks(streams, path)
            stated = stated_seconds(streams.audio)
            sound = join_blocks(
                blocks, rate, channels, stated=stated, max_seconds=limits.max_seconds, path=path, wanted=wanted_rate
            )
    return DecodedVideo(frames, sound, notes)


def decode_animation(
    data: bytes, *, mime_type: str, config: VideoConfig, limits: MediaLimits, path: str, wanted: SizeRule | None = None
) -> DecodedVideo:
    """Decode every n-th frame of an image that moves, the first included; a still one has one frame.

    Args:
        data: The encoded image; its first frame is within the limits on an image.
        mime_type: As sniffed from the bytes, one of `ANIMATED`.
        config: How many frames at most.
        limits: On work.
        path: Path of the block, for the error.
        wanted: The size to return frames at; None: their own.

    Raises:
        MediaLimitError: It is over a limit.
        MediaError: It is damaged.
    """
    kind = IMAGE_FORMATS[mime_type]
    frames: list[Frame] = []
    budget = _Budget(limits, path)
    stride, number, seconds = 1, 0, 0.0
    try:
        with Image.open(io.BytesIO(without_metadata(data) if kind == "PNG" else data), formats=[kind]) as image:
            while _seek(image, number):
                budget.spend(image.size)
                if number % stride == 0:
                    frames.append(Frame(decode_pillow(image.copy(), wanted), seconds))
                if len(frames) > config.max_frames:
                    frames, stride = frames[::2], stride * 2
                seconds += float(image.info.get("duration") or 0) / 1000
                number += 1
    except MediaError:
        raise
    except Exception as error:  # see `decode_image`
        raise MediaError("the image cannot be decoded: one of its frames is damaged", path=path) from error
    return DecodedVideo(tuple(frames), None, (f"{len(frames)} of {number} frames",))


def _seek(image: Image.Image, number: int) -> bool:
    """Go to a frame, and return whether there is one: counting them first would take as long."""
    try:
        image.seek(number)
    except EOFError:
        return False
    return True


class _Budget:
    """The work that decoding may cost, whatever a file says about itself."""

    def __init__(self, limits: MediaLimits, path: str) -> None:
        self._limits = limits
        self._path = path
        self._frames = 0
        self._pixels = 0

    def spend(self, size: tuple[int, int]) -> None:
        self._frames += 1
        self._pixels += size[0] * size[1]
        if self._frames > MAX_FRAMES:
            raise MediaLimitError(f"has more than {MAX_FRAMES:,} frames", path=self._path)
        if self._pixels > self._limits.max_video_pixels:
            reason = (
                f"takes more than {self._limits.max_video_pixels:,} pixels to decode: shorten it, or make it smaller"
            )
            raise MediaLimitError(reason, path=self._path)


def _packets(container: Any, video: Any, limits: MediaLimits, path: str) -> list[_Packet]:
    """Return the encoded frames: how many there are and when they are shown is counted, not read in the header."""
    packets: list[_Packet] = []
    size = 0
    for packet in container.demux(video):
        size += packet.size
        if packet.size and not packet.is_discard:
            shown = packet.dts if packet.pts is None else packet.pts
            packets.append(_Packet(len(packets) if shown is None else shown, packet.is_keyframe, packet))
        if len(packets) > MAX_FRAMES:
            raise MediaLimitError(f"has more than {MAX_FRAMES:,} frames", path=path)
        if size > 2 * limits.max_bytes:  # Matroska may compress what is compressed already
            raise MediaLimitError(f"holds more than {2 * limits.max_bytes:,} bytes when unpacked", path=path)
    if not packets:
        raise MediaError("the video has no frames", path=path)
    if (max(each.shown for each in packets) - _start(packets)) * video.time_base > limits.max_seconds:
        raise MediaLimitError(f"is longer than {limits.max_seconds:g} s", path=path)
    return packets


def _start(packets: Sequence[_Packet]) -> int:
    return min(each.shown for each in packets)


def _frames(
    video: Any, packets: Sequence[_Packet], config: VideoConfig, limits: MediaLimits, path: str, wanted: SizeRule | None
) -> Iterator[Frame]:
    """Yield the frames that are shown at evenly spaced moments."""
    decoder = _Decoder(video.codec_context, packets, _Budget(limits, path), path)
    pixels, start = 0, _start(packets)
    for target in _targets(packets, config.max_frames):
        frame = decoder.at(target)
        pixels += frame.width * frame.height
        if pixels > limits.max_total_pixels:
            raise MediaLimitError(f"its frames have more than {limits.max_total_pixels:,} pixels", path=path)
        upright = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
        image = decode_pillow(Image.fromarray(np.ascontiguousarray(upright)), wanted)
        yield Frame(image, float((target - start) * video.time_base))


def _targets(packets: Sequence[_Packet], max_frames: int) -> list[int]:
    """Return when the frames are shown that evenly spaced moments fall on, in order."""
    times = np.array(sorted({each.shown for each in packets}))
    moments = np.linspace(times[0], times[-1], max_frames)
    return sorted({int(times[at]) for at in np.searchsorted(times, moments, side="right") - 1})


class _Decoder:
    """Decodes frames in order, each from the nearest key frame before it."""

    def __init__(self, codec: Any, packets: Sequence[_Packet], budget: _Budget, path: str) -> None:
        self._codec = codec
        self._packets = packets
        self._keys = [at for at, each in enumerate(packets) if each.is_key]
        self._budget = budget
        self._path = path
        self._fed = 0
        self._ready: deque[Any] = deque()

    def at(self, time: int) -> Any:
        """Return the frame that is shown at a time, or the next one if that is lost."""
        key = max((at for at in self._keys if self._packets[at].shown <= time), default=0)
        if key > self._fed:
            self._codec.flush_buffers()
            self._ready.clear()
            self._fed = key
        while (frame := self._first()).pts is not None and frame.pts < time:
            self._ready.popleft()
        return frame

    def _first(self) -> Any:
        """Return the next frame, which stays the next."""
        while not self._ready:
            if self._fed > len(self._packets):
                raise MediaError("the video is damaged: a frame of it cannot be decoded", path=self._path)
            packet = self._packets[self._fed].packet if self._fed < len(self._packets) else None
            self._fed += 1
            self._ready.extend(self._codec.decode(packet))
            for frame in self._ready:
                self._budget.spend((frame.width, frame.height))
        return self._ready[0]
