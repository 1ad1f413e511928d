import base64
import io
import os
import random
import struct
import sys
from collections.abc import Callable
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image

from smoothguard_guardrail.config import MediaConfig, MediaLimits, VideoConfig
from smoothguard_guardrail.errors import MediaError, MediaLimitError, UnsupportedMediaError
from smoothguard_guardrail.media import ffmpeg, prepare
from smoothguard_guardrail.media.formats import CONTAINER_FORMATS, sniff
from smoothguard_guardrail.media.video import DecodedVideo, decode_animation, decode_video
from smoothguard_guardrail.media.video_file import VideoFile
from tests.media import corpus
from tests.media.recorded import grey_frames, photo, record_sound, record_video

HOLDERS = (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"stbl")
"""MP4 boxes that hold boxes."""
PATH = "messages[0].content[1]"
HEIC = photo(corpus.PIXELS)
TONE = (0.3 * np.sin(np.arange(16_000) / 9)).astype(np.float32)


def decode(data: bytes, config: VideoConfig | None = None, **limits: float) -> DecodedVideo:
    sniffed = sniff(data)
    assert sniffed is not None
    return decode_video(
        data,
        mime_type=sniffed.mime_type,
        config=config or VideoConfig(keep_sound=True),
        limits=MediaLimits(**limits),
        path=PATH,
    )


def numbers(video: DecodedVideo) -> list[int]:
    """Return the numbers of frames made by `grey_frames`."""
    return [round(float(frame.image.unit.mean()) * 25.5) for frame in video.frames]


@pytest.mark.parametrize(
    ("container", "codec", "sound_codec"),
    [
        ("mp4", "libx264", "aac"),
        ("mp4", "libx265", "alac"),
        ("mp4", "libsvtav1", "aac"),
        ("mov", "mpeg4", "pcm_s16le"),
        ("3gp", "mpeg4", "libopencore_amrnb"),
        ("webm", "libvpx-vp9", "libopus"),
        ("webm", "vp8", "libopus"),
        ("matroska", "ffv1", "flac"),
        ("avi", "mpeg4", "libmp3lame"),
        ("avi", "mjpeg", "pcm_s16le"),
        ("flv", "libx264", "aac"),
        ("mpeg", "mpeg2video", "mp2"),
        ("asf", "wmv2", "libmp3lame"),
        ("ogg", "vp8", "libopus"),
    ],
)
def test_frames_are_those_shown_at_evenly_spaced_moments(container: str, codec: str, sound_codec: str) -> None:
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    data = record_video(grey_frames(25), container, codec, sound=TONE, sound_codec=sound_codec, pix_fmt=pix_fmt)
    video = decode(data)
    assert numbers(video) == pytest.approx([0, 3, 6, 10, 13, 17, 20, 24], abs=1)
    assert [frame.seconds for frame in video.frames] == pytest.approx([0, 0.3, 0.6, 1, 1.3, 1.7, 2, 2.4], abs=0.11)
    assert video.sound is not None
    assert 0.25 < float(video.sound.waveform.abs().max()) < 0.35
    assert "8 of 25 frames" in video.notes


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="the system does not tell how it schedules")
def test_neither_recording_nor_reading_av1_makes_this_thread_a_real_time_one() -> None:
    before = os.sched_getscheduler(0)
    decode(record_video(grey_frames(3), "mp4", "libsvtav1"))
    assert os.sched_getscheduler(0) == before


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        ("mp4", "aac"),
        ("ipod", "aac"),
        ("ipod", "alac"),
        ("adts", "aac"),
        ("webm", "libopus"),
        ("amr", "libopencore_amrnb"),
    ],
)
def test_a_container_without_video_is_audio(container: str, codec: str) -> None:
    rate = {"libopus": 48_000, "libopencore_amrnb": 8_000}.get(codec, 16_000)
    data = record_sound((0.3 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)).astype(np.float32), container, codec)
    block = {"type": "video", "base64": base64.b64encode(data).decode()}
    [medium] = prepare([corpus.HumanMessage([block])], MediaConfig()).media
    assert (medium.kind, medium.sampling_rate, medium.record.path) == ("audio", rate, "messages[0].content[0]")
    assert medium.record.mime_type is not None
    assert medium.record.mime_type.startswith("audio/")
    wave = medium.values[0, 2_000 : 2_000 + rate // 2].numpy()
    loudest = np.abs(np.fft.rfft(wave)).argmax() * rate / len(wave)
    assert loudest == pytest.approx(440, abs=4)


def boxes(
    data: bytes, edit: Callable[[bytes, bytes], bytes], holders: bytes = b"moov trak mdia minf dinf stbl"
) -> bytes:
    """Return an MP4 with the content of its boxes edited, given their type and content; the media data is first."""
    written, at = b"", 0
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        content = data[at + 8 : at + size]
        content = boxes(content, edit) if kind in HOLDERS else edit(kind, content)
        written += struct.pack(">I4s", len(content) + 8, kind) + content
        at += size
    return written


def test_the_durations_that_a_header_states_do_not_matter() -> None:
    def lie(kind: bytes, content: bytes) -> bytes:
        places = {b"mvhd": 16, b"mdhd": 16, b"tkhd": 20}
        at = places.get(kind)
        return content if at is None else content[:at] + b"\x7f\xff\xff\xff" + content[at + 4 :]

    honest = record_video(grey_frames(9))
    assert numbers(decode(boxes(honest, lie))) == numbers(decode(honest))


def test_real_durations_are_limited() -> None:
    with pytest.raises(MediaLimitError, match="longer than 600 s"):
        decode(record_video(grey_frames(9), rate=Fraction(1, 100)))
    with pytest.raises(MediaLimitError, match=r"longer than 0\.5 s"):
        decode(record_sound(TONE), max_seconds=0.5)


@pytest.mark.parametrize(("turn", "corner"), [(0, (0, 0)), (90, (0, -1)), (180, (-1, -1)), (270, (-1, 0))])
def test_frames_are_turned_upright(turn: int, corner: tuple[int, int]) -> None:
    """The top left of a stored frame, which is white, goes where the file says: clockwise."""
    cosine, sine = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[turn]
    matrix = struct.pack(">9i", cosine << 16, sine << 16, 0, -sine << 16, cosine << 16, 0, 0, 0, 1 << 30)

    def rotate(kind: bytes, content: bytes) -> bytes:
        return content[:40] + matrix + content[76:] if kind == b"tkhd" else content

    frame = np.zeros((48, 64, 3), np.uint8)
    frame[:16, :16] = 255
    [shown] = decode(boxes(record_video([frame]), rotate)).frames
    assert shown.image.size == ((64, 48) if turn % 180 == 0 else (48, 64))
    assert shown.image.unit[:, corner[0], corner[1]].min() > 0.9
    assert shown.image.unit.mean() < 0.2


def test_the_cost_of_decoding_is_limited() -> None:
    data = record_video(grey_frames(25), g="100")
    with pytest.raises(MediaLimitError, match="pixels to decode"):
        decode(data, max_video_pixels=64 * 48 * 20)
    with pytest.raises(MediaLimitError, match="its frames have more"):
        decode(data, max_total_pixels=64 * 48 * 7)
    with pytest.raises(MediaLimitError, match="bytes when unpacked"):
        decode(data, max_bytes=len(data) // 8)
    with pytest.raises(MediaLimitError, match="64 x 48 pixels"):
        decode(data, max_pixels=64 * 48 - 1)
    decode(record_video(grey_frames(25), g="1"), max_video_pixels=64 * 48 * 8)


def test_streams_beside_one_of_video_and_one_of_audio() -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as file:
        video = file.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        file.add_attachment("font.ttf", "font/ttf", corpus.PNG)
        for pixels in grey_frames(3):
            file.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(video.encode(None))
    assert "attachment streams left out: 1" in decode(buffer.getvalue()).notes


def with_several_sounds(number: int, *, with_video: bool = False) -> bytes:
    """Return a file with several audio streams."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as file:
        streams = [file.add_stream("aac", rate=16_000, layout="mono") for _ in range(number)]
        if with_video:
            video = file.add_stream("libx264", rate=10)
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            for pixels in grey_frames(3):
                file.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            file.mux(video.encode(None))
        for stream in streams:
            frame = av.AudioFrame.from_ndarray(TONE[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16_000, 0
            for each in (frame, None):
                file.mux(stream.encode(each))
    return buffer.getvalue()


@pytest.mark.parametrize(("number", "reason"), [(2, "2 audio streams"), (40, "16 streams")])
def test_several_streams_of_a_kind_are_refused(number: int, reason: str) -> None:
    with pytest.raises(MediaError, match=reason):
        decode(with_several_sounds(number))


def test_sound_matters_only_where_it_is_kept() -> None:
    data = with_several_sounds(2, with_video=True)
    silent = decode(data, VideoConfig())
    assert silent.sound is None
    assert silent.notes == ("audio streams left out: 2", "3 of 3 frames")
    with pytest.raises(UnsupportedMediaError, match="2 audio streams"):
        decode(data)


def test_frames_may_change_their_size_on_the_way() -> None:
    frames = grey_frames(2) + grey_frames(4, 96, 32)[2:]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as file:
        stream = file.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        file.start_encoding()
        for index, pixels in enumerate(frames):
            jpeg = io.BytesIO()
            Image.fromarray(pixels).save(jpeg, "JPEG")
            packet = av.Packet(jpeg.getvalue())
            packet.stream, packet.pts, packet.dts, packet.is_keyframe = stream, index * 100, index * 100, True
            file.mux(packet)
    data = buffer.getvalue()
    video = decode(data)
    assert [frame.image.size for frame in video.frames] == [(64, 48)] * 2 + [(32, 96)] * 2
    block = {"video": {"format": "mkv", "source": {"bytes": data}}}
    with pytest.raises(UnsupportedMediaError, match="different sizes"):
        prepare([corpus.HumanMessage([block])], MediaConfig())


def test_a_file_never_makes_the_decoder_open_another(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def spy(url: str, *_: object) -> None:
        asked.append(url)
        raise PermissionError(url)

    def alias(kind: bytes, content: bytes) -> bytes:
        """Let the media data stand in another file, named by a Macintosh alias with an absolute path."""
        if kind != b"dref":
            return content
        path = b"/etc/passwd\0"
        entry = b"alis" + bytes(4) + bytes(150) + struct.pack(">HH", 2, len(path)) + path + struct.pack(">hH", -1, 0)
        return bytes(4) + struct.pack(">I", 1) + struct.pack(">I", len(entry) + 4) + entry

    monkeypatch.setattr(ffmpeg, "_refuse", spy)
    external = boxes(record_video(grey_frames(3)), alias)
    options = {"enable_drefs": "1", "use_absolute_path": "1"}
    with (
        pytest.raises((PermissionError, av.FFmpegError)),
        av.open(io.BytesIO(external), format="mov", options=options, io_open=spy) as file,
    ):
        list(file.decode(video=0))
    assert asked  # a decoder that follows references is told to
    asked.clear()
    with pytest.raises(MediaError, match="no frames"):
        decode(external)
    assert not asked
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"
    with pytest.raises((PermissionError, av.FFmpegError)):
        av.open(io.BytesIO(playlist), format="hls", io_open=spy)
    assert asked
    asked.clear()
    concat = b"ffconcat version 1.0\nfile '/etc/passwd'\n"
    for text in (playlist, concat):
        assert sniff(text) is None
        for mime_type in CONTAINER_FORMATS:
            with pytest.raises(MediaError):
                decode_video(text, mime_type=mime_type, config=VideoConfig(), limits=MediaLimits(), path=PATH)
    assert not asked


def damaged(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 3, 30))):
        changed[rng.randrange(len(changed))] = rng.choice((0, 0x7F, 0xFF, rng.randrange(256)))
    return bytes(changed[: rng.choice((len(data), rng.randrange(len(data))))])


@pytest.mark.slow
@pytest.mark.parametrize(
    "data",
    [
        record_video(grey_frames(12), sound=TONE[:4_000]),
        record_video(grey_frames(12), "webm", "vp8", sound=np.tile(TONE, 1), sound_codec="libopus"),
        record_video(grey_frames(12), "avi", "mpeg4"),
        record_sound(TONE[:4_000], "adts"),
        HEIC,
    ],
    ids=["mp4", "webm", "avi", "adts", "heic"],
)
def test_damaged_files_decode_within_bounds_or_raise_media_errors(data: bytes) -> None:
    rng = random.Random(0)
    config = MediaConfig(video=VideoConfig(keep_sound=True))
    results = []
    for _ in range(120):
        block = {"type": "file", "base64": base64.b64encode(damaged(data, rng)).decode()}
        try:
            results.append(prepare([corpus.HumanMessage([block])], config).media)
        except MediaError as error:
            results.append(str(error))
    refused = [result for result in results if isinstance(result, str)]
    assert 0 < len(refused) < len(results)
    assert all(reason.startswith("messages[0].content[0]: ") for reason in refused)
    for medium in [medium for result in results if not isinstance(result, str) for medium in result]:
        low = 0 if medium.kind == "image" else -1
        assert ((medium.tensor >= low) & (medium.tensor <= 1)).all()


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(64),
        boxes(record_video(grey_frames(3)), lambda kind, content: bytes(12) if kind == b"stsz" else content),
        b"\x1aE\xdf\xa3" + bytes(64),
        b"FLV\x01" + bytes(64),
    ],
)
def test_files_without_frames_or_sound_are_errors(data: bytes) -> None:
    with pytest.raises(MediaError, match=r"^messages\[0\]\.content\[1\]: "):
        decode(data)


@pytest.mark.parametrize(("package", "data"), [("av", corpus.MP4), ("av", corpus.M4A), ("pillow_heif", HEIC)])
def test_without_the_extra_the_policy_decides(package: str, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    messages = [corpus.HumanMessage([{"type": "file", "base64": base64.b64encode(data).decode()}])]
    with pytest.raises(UnsupportedMediaError, match=r"pip install 'smoothguard-guardrail\[media\]'"):
        prepare(messages, MediaConfig())
    [record] = prepare(messages, MediaConfig(on_unsupported="drop")).records
    assert (record.action, record.num_bytes) == ("dropped", len(data))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF"])
def test_images_that_move_are_videos_where_asked_for(kind: str) -> None:
    first, *rest = [Image.fromarray(frame) for frame in grey_frames(20)]
    buffer = io.BytesIO()
    first.save(buffer, kind, save_all=True, append_images=rest, duration=100)
    block = {"type": "image", "base64": base64.b64encode(buffer.getvalue()).decode()}
    [still] = prepare([corpus.HumanMessage([block])], MediaConfig()).media
    assert still.record.path == "messages[0].content[0]"
    config = MediaConfig(video=VideoConfig(animated_images=True))
    frames = prepare([corpus.HumanMessage([block])], config).media
    shown = [round(float(frame.tensor.mean()) * 25.5) for frame in frames]
    assert shown == pytest.approx([0, 4, 8, 12, 16], abs=1)
    assert [frame.record.notes[0] for frame in frames] == ["at 0 s", "at 0.4 s", "at 0.8 s", "at 1.2 s", "at 1.6 s"]
    with pytest.raises(MediaLimitError, match="pixels to decode"):
        decode_animation(
            buffer.getvalue(),
            mime_type=f"image/{kind.lower()}",
            config=VideoConfig(),
            limits=MediaLimits(max_video_pixels=64 * 48 * 10),
            path=PATH,
        )


@pytest.mark.parametrize("sigma", [0.05, 0.1, 0.3])
def test_a_new_video_keeps_two_thirds_of_the_noise(sigma: float) -> None:
    shape = (3, 97, 130)
    clean = [0.3 + 0.4 * torch.rand(3, 1, 1, generator=torch.Generator().manual_seed(0)).expand(shape)] * 2
    file = VideoFile(seconds=(0.0, 1.5), sampling_rate=16_000)
    *frames, sound = file.kept_noise([*clean, 0.5 * torch.from_numpy(TONE)[None]], [sigma, sigma, 0.03])
    assert frames == pytest.approx([0.71, 0.71], abs=0.04)
    assert sound == pytest.approx(1, abs=0.1)


def test_the_noise_is_measured_whatever_the_times_and_the_rate() -> None:
    grey = torch.full((3, 32, 32), 0.5)
    file = VideoFile(seconds=(0.0, 50.0, 50.0001, 590.0), sampling_rate=10_000)  # AAC knows no such rate
    assert file.kept_noise([grey] * 4 + [torch.zeros(1, 9_000)], [0.1] * 4 + [0.0])[-1] == 1
    assert file.kept_noise([grey] * 4 + [torch.zeros(1, 9_000)], [0.1] * 4 + [0.05])[-1] == pytest.approx(1, abs=0.1)
