import base64
import enum
import io
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from PIL import Image

from smoothguard_guardrail.config import MediaConfig, MediaLimits, RemotePolicy
from smoothguard_guardrail.errors import (
    InputError,
    MediaError,
    MediaFetchError,
    MediaLimitError,
    UnsupportedMediaError,
)
from smoothguard_guardrail.media import PreparedRequest, prepare, render_medium
from smoothguard_guardrail.media.image import encode_png
from tests.media import corpus
from tests.media.corpus import CASES, Case

CASE = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
NO_REMOTE = RemotePolicy()


def ready(messages: list[BaseMessage], on_unsupported: str = "error", **limits: float) -> PreparedRequest:
    return prepare(messages, MediaConfig(on_unsupported=on_unsupported, limits=MediaLimits(**limits), remote=NO_REMOTE))


def render(prepared: PreparedRequest, *, as_tensors: bool = False) -> list[BaseMessage]:
    generator = torch.Generator().manual_seed(1)
    low = {"image": 0.0, "audio": -1.0}
    noisy = [
        (m.tensor + 0.1 * torch.randn(m.tensor.shape, generator=generator)).clamp(low[m.kind], 1)
        for m in prepared.media
    ]
    pairs = zip(prepared.media, noisy, strict=True)
    return prepared.render([render_medium(medium, values, as_tensors=as_tensors) for medium, values in pairs])


def one(block: object) -> list[BaseMessage]:
    return [HumanMessage(content=[block])]


def rendered(block: object, **options: bool) -> dict:
    return render(ready(one(block)), **options)[0].content[0]


@CASE
def test_the_media_listed_in_the_corpus_are_found(case: Case) -> None:
    prepared = ready(case.messages, "pass")
    assert tuple(medium.kind for medium in prepared.media) == case.media
    assert tuple(record.kind for record in prepared.records if record.action == "passed") == case.unsupported


@CASE
def test_only_what_cannot_be_guarded_is_refused(case: Case) -> None:
    if case.unsupported:
        with pytest.raises((UnsupportedMediaError, MediaFetchError), match=r"^messages\[0\]\."):
            ready(case.messages)
    else:
        assert all(record.action == "perturbed" for record in ready(case.messages).records)


@CASE
@pytest.mark.parametrize("as_tensors", [False, True])
def test_nothing_arrives_unperturbed(case: Case, as_tensors: bool) -> None:
    prepared = ready(case.messages, "drop")
    assert not corpus.arrives_unperturbed(render(prepared, as_tensors=as_tensors))
    assert all(record.action != "passed" for record in prepared.records)


@CASE
def test_rendered_media_are_found_again_in_the_same_places(case: Case) -> None:
    prepared = ready(case.messages, "drop")
    again = ready(render(prepared), "error")
    assert [m.kind for m in again.media] == [m.kind for m in prepared.media]
    assert not [record for record in again.records if record.action != "perturbed"]


@CASE
def test_the_callers_messages_are_neither_changed_nor_shared(case: Case) -> None:
    before = corpus.flatten(case.messages)
    prepared = ready(case.messages, "pass")
    outcomes = [prepared.unchanged(), render(prepared), render(prepared, as_tensors=True)]
    for outcome in outcomes:
        assert [type(message) for message in outcome] == [type(message) for message in case.messages]
        for message, original in zip(outcome, case.messages, strict=True):
            if isinstance(message.content, list):
                message.content.append("changed")
                for block in message.content[:-1]:
                    if isinstance(block, dict):
                        block.clear()
            message.additional_kwargs["changed"] = True
            assert message is not original
    assert corpus.flatten(case.messages) == before


def test_a_request_without_media_equals_the_original() -> None:
    for case in CASES:
        objects = (Image.Image, np.ndarray, torch.Tensor)  # have no equality
        if not any(isinstance(part, objects) for part in leaves(case.messages)):
            assert ready(case.messages, "pass").unchanged() == plain(case.messages), case.name


def plain(messages: list[BaseMessage]) -> list[BaseMessage]:
    """Copy messages, with every buffer turned into bytes."""

    def copied(node: object) -> object:
        if isinstance(node, dict):
            return {key: copied(value) for key, value in node.items()}
        if isinstance(node, list):
            return [copied(value) for value in node]
        return bytes(node) if isinstance(node, bytearray | memoryview) else node

    return [message.model_copy(update={"content": copied(message.content)}) for message in messages]


def leaves(node: object) -> list[object]:
    """Return every value that is not a container."""
    if isinstance(node, BaseMessage):
        return leaves(node.content)
    if isinstance(node, dict):
        return leaves(list(node.values()))
    if isinstance(node, list):
        return [leaf for value in node for leaf in leaves(value)]
    return [node]


def test_extra_keys_survive_and_declared_types_match_the_new_bytes() -> None:
    block = rendered({"type": "image_url", "image_url": {"url": corpus.PNG_URI, "detail": "low"}, "title": "A cat"})
    assert block["image_url"]["detail"] == "low"
    assert block["title"] == "A cat"
    assert block["image_url"]["url"].startswith("data:image/png;base64,")
    jpeg = base64.b64encode(corpus.JPEG).decode()
    assert rendered({"type": "image", "base64": jpeg, "mime_type": "image/jpeg"})["mime_type"] == "image/png"
    assert rendered({"type": "image", "base64": jpeg})["mime_type"] == "image/png"
    source = {"type": "base64", "media_type": "image/jpeg", "data": jpeg}
    assert rendered({"type": "image", "source": source})["source"]["media_type"] == "image/png"
    bedrock = rendered({"image": {"format": "jpeg", "source": {"bytes": corpus.JPEG}}})
    assert bedrock["image"]["format"] == "png"
    flac = base64.b64encode(corpus.record("FLAC")).decode()
    audio = rendered({"type": "input_audio", "input_audio": {"data": flac, "format": "flac"}})
    assert audio["input_audio"]["format"] == "wav"


def test_tensor_blocks_replace_whole_blocks() -> None:
    image = rendered({"type": "image_url", "image_url": {"url": corpus.PNG_URI}}, as_tensors=True)
    assert image.keys() == {"type", "image"}
    assert image["image"].shape == (3, 24, 32)
    audio = rendered({"type": "audio", "base64": corpus.WAV64}, as_tensors=True)
    assert audio["sampling_rate"] == corpus.SAMPLING_RATE
    assert audio["audio"].shape == (1, 1600)
    text = rendered({"type": "text", "text": f"see {corpus.PNG_URI}"}, as_tensors=True)
    assert text["text"].startswith("see data:image/png;base64,")


@pytest.mark.parametrize(
    "original",
    [
        corpus.PIXELS,
        corpus.PIXELS.astype(np.float32) / 255,
        torch.from_numpy(corpus.PIXELS),
        torch.from_numpy(corpus.PIXELS).permute(2, 0, 1).double() / 255,
        Image.fromarray(corpus.PIXELS),
        Image.fromarray(corpus.PIXELS).convert("L"),
    ],
)
def test_image_objects_keep_their_form(original: object) -> None:
    perturbed = rendered({"type": "image", "image": original})["image"]
    assert isinstance(perturbed, type(original))
    if not isinstance(original, Image.Image):
        assert perturbed.shape == original.shape
        assert perturbed.dtype == original.dtype


def test_text_around_a_data_uri_is_kept() -> None:
    text = f"First:\n{corpus.PNG_URI}\nDescribe it, and then {corpus.WAV_URI}. Thanks"
    [message] = render(ready([HumanMessage(text)]))
    before, between, after = message.text.partition("\nDescribe it, and then ")
    assert before.startswith("First:\ndata:image/png;base64,")
    assert between
    assert after.startswith("data:audio/wav;base64,")
    assert after.endswith(". Thanks")


def test_dropped_blocks_leave_valid_content() -> None:
    video = {"type": "video", "base64": corpus.MP464}
    [message] = ready(one(video), "drop").unchanged()
    assert message.content == [{"type": "text", "text": "[attachment removed]"}]
    [message] = ready(one({"video": {"format": "mp4", "source": {"bytes": corpus.MP4}}}), "drop").unchanged()
    assert message.content == [{"text": "[attachment removed]"}]
    [message] = ready([HumanMessage([{"type": "text", "text": "x"}, video])], "drop").unchanged()
    assert message.content == [{"type": "text", "text": "x"}]
    [message] = ready([HumanMessage(f"see {corpus.MP4_URI} there")], "drop").unchanged()
    assert message.content == "see [attachment removed] there"
    call = ToolMessage(corpus.URL, tool_call_id="1", additional_kwargs={"type": "computer_call_output"})
    [message] = ready([call], "drop").unchanged()
    assert message.content == "[attachment removed]"


def test_records_describe_each_medium() -> None:
    [record] = ready(one({"type": "image", "base64": corpus.PNG64, "mime_type": "image/gif"})).records
    assert record.path == "messages[0].content[0]"
    assert (record.mime_type, record.size, record.num_bytes) == ("image/png", (32, 24), len(corpus.PNG))
    assert record.sha256 is not None
    assert len(record.sha256) == 64
    [record] = ready(one({"type": "audio", "base64": corpus.WAV64})).records
    assert record.duration == pytest.approx(0.1)
    [record] = ready(one({"type": "file", "base64": corpus.MP464}), "drop").records
    assert (record.kind, record.action, record.mime_type) == ("video", "dropped", "video/mp4")
    nested = [{"type": "tool_result", "content": ["x", {"type": "image", "base64": corpus.PNG64}]}]
    [record] = ready([AIMessage("x"), HumanMessage(nested)]).records
    assert record.path == "messages[1].content[0].content[1]"


def test_limits_apply_before_decoding() -> None:
    image = one({"type": "image", "base64": corpus.PNG64})
    with pytest.raises(MediaLimitError, match="bytes"):
        ready(image, max_bytes=100)
    with pytest.raises(MediaLimitError, match=r"^messages\[0\].content\[0\]: has 32 x 24 pixels; at most 767"):
        ready(image, max_pixels=767)
    with pytest.raises(MediaLimitError, match="longer than"):
        ready(one({"type": "audio", "base64": corpus.WAV64}), max_seconds=0.05)
    with pytest.raises(MediaLimitError, match=r"messages\[2\].content\[0\]: the request holds 3 media; at most 2 are"):
        ready([*image, *image, *image], max_count=2)
    with pytest.raises(MediaLimitError, match="about"):
        ready(one({"type": "image", "base64": "A" * 10_000}), max_bytes=1_000)
    with pytest.raises(MediaLimitError, match="pixels"):
        ready(one({"type": "image", "image": corpus.PIXELS}), max_pixels=767)


def test_a_damaged_medium_is_an_error_under_every_policy() -> None:
    broken = base64.b64encode(corpus.PNG[:-300]).decode()
    for policy in ("error", "drop", "pass"):
        with pytest.raises(MediaError, match=r"messages\[0\].content\[0\]"):
            ready(one({"type": "image", "base64": broken}), policy)
    with pytest.raises(MediaError, match="not valid base64"):
        ready(one({"type": "image", "base64": "!!" + corpus.PNG64}))
    with pytest.raises(UnsupportedMediaError):
        ready([HumanMessage(f"log: {broken}")])
    assert ready([HumanMessage(f"log: {broken}")], "pass").records[0].kind == "image"
    garbled = "data:image/png;base64," + "A=" * 400
    assert ready([HumanMessage(garbled)], "drop").unchanged()[0].content == "[attachment removed]"


def test_deep_and_circular_nesting_is_refused() -> None:
    circle: dict = {"type": "text", "text": "x"}
    circle["self"] = circle
    with pytest.raises(UnsupportedMediaError, match="nested too deeply"):
        ready([HumanMessage.model_construct(content=[circle], additional_kwargs={}, response_metadata={})])


def test_objects_that_hide_media_are_unknown() -> None:
    namespace = SimpleNamespace(inside=[HumanMessage(corpus.PNG_URI)])
    for hidden in (io.BytesIO(corpus.PNG), {corpus.PNG_URI}, HumanMessage(corpus.PNG_URI), namespace):
        [record] = ready([HumanMessage("x", additional_kwargs={"extra": hidden})], "drop").records
        assert (record.kind, record.action) == ("unknown", "dropped")
    assert ready([HumanMessage("x", additional_kwargs={"parsed": HumanMessage("x"), "tags": {"a"}})]).records == ()


class Colour(enum.Enum):
    RED = "red"


class Node:
    def __init__(self, parent: object = None) -> None:
        self.parent, self.child = parent, parent or Node(self)


@pytest.mark.parametrize(
    "value",
    [Colour.RED, Colour, Node(), logging.getLogger("x"), open, np.zeros(768, np.float32), torch.zeros(4, 768)],
    ids=["enum", "class", "circle", "logger", "function", "vector", "matrix"],
)
def test_what_no_adapter_sends_is_no_reason_to_refuse(value: object) -> None:
    message = AIMessage("x", additional_kwargs={"extra": value, "parsed": [{"inside": value}]})
    assert ready([message]).records == ()
    called = AIMessage("", tool_calls=[{"name": "f", "args": {"a": value}, "id": "1"}])
    assert ready([called]).records == ()


@pytest.mark.parametrize("key", ["uuid", "id", "mediaHash", "cache_key", "sha256", "cache_control", "etag"])
def test_no_name_of_the_original_stays_beside_the_bytes_of_a_copy(key: str) -> None:
    inner = {"url": corpus.PNG_URI, key: "x", "extras": {key: "x", "kept": 1}}
    block = rendered({"type": "image_url", "image_url": inner, key: {"type": "x"}})
    assert block["image_url"].keys() == {"url", "extras"}
    assert (block["image_url"]["extras"], block.keys()) == ({"kept": 1}, {"type", "image_url"})
    on_a_text = rendered({"type": "text", "text": "x", "image_url": {"url": corpus.PNG_URI}, key: "x"})
    assert on_a_text.keys() == {"type", "text", "image_url"}
    call = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "base64": corpus.PNG64, key: "x"}]}
    result = rendered(call)
    assert (result["tool_use_id"], key in result["content"][0]) == ("t", False)


def test_a_generated_medium_that_its_provider_keeps_is_not_taken_for_its_bytes() -> None:
    block = {"type": "image", "base64": corpus.PNG64, "mime_type": "image/png"}
    with pytest.raises(UnsupportedMediaError, match="file id"):
        ready([AIMessage([block | {"id": "ig_123"}])])
    assert ready([AIMessage([block | {"id": "lc_123"}])]).records[0].action == "perturbed"
    assert ready([HumanMessage([block | {"id": "ig_123"}])]).records[0].action == "perturbed"


def test_artifacts_are_kept() -> None:
    artifact = object()
    [message] = ready([ToolMessage("x", tool_call_id="1", artifact=artifact)]).unchanged()
    assert message.artifact is artifact


def test_tensors_of_the_wrong_shape_are_refused() -> None:
    prepared = ready(one({"type": "image", "base64": corpus.PNG64}))
    with pytest.raises(InputError, match="expected 1 media"):
        prepared.render([])
    with pytest.raises(InputError, match="shape"):
        render_medium(prepared.media[0], torch.zeros(1, 8, 8), as_tensors=False)
    [message] = prepared.render([render_medium(prepared.media[0], torch.zeros(3, 8, 9), as_tensors=False)])
    assert ready([message]).records[0].size == (9, 8)


def test_allowed_files_are_read_once_and_become_bytes(tmp_path) -> None:
    file = tmp_path / "cat.png"
    file.write_bytes(corpus.PNG)
    remote = RemotePolicy(allowed_directories=(str(tmp_path),))
    blocks = [
        {"type": "image", "path": str(file)},
        {"type": "image", "url": file.as_uri()},
        {"type": "image", "source_type": "url", "url": file.as_uri()},
        {"type": "image_url", "image_url": {"url": file.as_uri(), "detail": "low"}},
        {"type": "image", "source": {"type": "url", "url": file.as_uri()}},
        {"fileData": {"fileUri": file.as_uri(), "mimeType": "image/jpeg"}},
        {"type": "media", "file_uri": file.as_uri(), "mime_type": "image/png"},
        {"type": "image", "image": str(file)},
    ]
    prepared = prepare([HumanMessage(blocks)], MediaConfig(remote=remote))
    file.unlink()
    png = base64.b64encode(encode_png(prepared.media[0].tensor)).decode()
    uri = f"data:image/png;base64,{png}"
    [message] = prepared.render([render_medium(medium, medium.tensor, as_tensors=False) for medium in prepared.media])
    assert message.content == [
        {"type": "image", "base64": png, "mime_type": "image/png"},
        {"type": "image", "base64": png, "mime_type": "image/png"},
        {"type": "image", "source_type": "base64", "data": png, "mime_type": "image/png"},
        {"type": "image_url", "image_url": {"url": uri, "detail": "low"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": png}},
        {"inlineData": {"mimeType": "image/png", "data": png}},
        {"type": "media", "mime_type": "image/png", "data": png},
        {"type": "image", "image": uri},
    ]
    assert not corpus.arrives_unperturbed(render(prepared))
