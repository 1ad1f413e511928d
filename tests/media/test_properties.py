"""What holds for every request."""

import copy
import copyreg
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from PIL import Image

from smoothguard_guardrail.config import MediaConfig, MediaLimits
from smoothguard_guardrail.media import Encoded, PreparedRequest, prepare, render_medium, scan
from smoothguard_guardrail.media.rewriter import Rewriter
from smoothguard_guardrail.media.strings import find_spans
from tests.media import corpus

PROPERTY = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])

words = st.text(st.characters(codec="utf-8"), max_size=40)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    words,
    st.sampled_from([corpus.PNG, corpus.PNG64, corpus.PNG_URI, corpus.URL, corpus.PLAIN64, f"a {corpus.WAV_URI}, b"]),
)
trees = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3))


def is_plain(block: Any) -> bool:
    """Return whether a block can be compared: it holds no image object."""
    values = block.values() if isinstance(block, dict) else ()
    return not any(isinstance(value, Image.Image | torch.Tensor | np.ndarray | list) for value in values)


contents_of_cases = [message.content for case in corpus.CASES for message in case.messages]
known = [block for content in contents_of_cases if isinstance(content, list) for block in content if is_plain(block)]
blocks = st.one_of(
    words,
    st.sampled_from(known).map(copy.copy),
    st.fixed_dictionaries({"type": st.just("text"), "text": words, "extra": trees}),
    st.dictionaries(st.sampled_from(["type", "image", "source", "url", "data", "content", "x"]), trees, max_size=4),
)
contents = words | st.lists(blocks, max_size=4)


@st.composite
def messages(draw: st.DrawFn) -> list[BaseMessage]:
    extras = draw(st.dictionaries(words.filter(bool), trees, max_size=2))
    calls = [{"name": "f", "args": {"a": draw(trees)}, "id": "1"}]
    made = [
        SystemMessage(draw(contents)),
        HumanMessage(draw(contents), additional_kwargs=extras),
        AIMessage(draw(contents), tool_calls=calls),
        ToolMessage(draw(words), tool_call_id="1"),
    ]
    return made[: draw(st.integers(1, 4))]


def ready(request: list[BaseMessage], policy: str = "pass") -> PreparedRequest:
    limits = MediaLimits(max_count=1_000)
    return prepare(request, MediaConfig(on_unsupported=policy, limits=limits))


def render(prepared: PreparedRequest) -> list[BaseMessage]:
    return prepared.render([render_medium(medium, 0.5 * medium.tensor, as_tensors=False) for medium in prepared.media])


def masked(request: list[BaseMessage], guarded: set[str]) -> list[BaseMessage]:
    """Return the request with every guarded medium replaced by one and the same."""
    rewriter = Rewriter()
    for found in scan(request):
        if found.path in guarded and found.form not in ("url", "path", "file_id", "unknown", "object"):
            rewriter.write(found, Encoded.of(b"mask", "image/png"))
    return rewriter.apply(request)


@PROPERTY
@given(messages())
def test_scanning_twice_finds_the_same(request: list[BaseMessage]) -> None:
    assert scan(request) == scan(request)
    assert scan(Rewriter().apply(request)) == scan(request)


# copy.deepcopy copies no memoryview by itself.
copyreg.pickle(memoryview, lambda view: (memoryview, (view.tobytes(),)))  # type: ignore[arg-type]


@PROPERTY
@given(messages())
def test_the_callers_objects_are_never_changed_nor_shared(request: list[BaseMessage]) -> None:
    before = copy.deepcopy(request)
    prepared = ready(request)
    outcomes = [prepared.unchanged(), render(prepared)]
    assert request == before
    theirs = set().union(*(containers(message.__dict__) for message in request))
    for outcome in outcomes:
        assert not theirs & set().union(*(containers(message.__dict__) for message in outcome))


def containers(node: Any) -> set[int]:
    if isinstance(node, dict):
        return {id(node)}.union(*map(containers, node.values()))
    if isinstance(node, list):
        return {id(node)}.union(*map(containers, node))
    return set()


@PROPERTY
@given(messages())
def test_a_rendered_message_differs_in_its_media_only(request: list[BaseMessage]) -> None:
    prepared = ready(request)
    guarded = {medium.found.path for medium in prepared.media}
    others = {record.path for record in prepared.records if record.action != "perturbed"}
    if others or any(medium.becomes_blocks(as_tensors=False) for medium in prepared.media):
        return
    assert masked(render(prepared), guarded) == masked(request, guarded)


@PROPERTY
@given(messages())
def test_no_original_is_left_if_all_that_cannot_be_guarded_is_dropped(request: list[BaseMessage]) -> None:
    assert not corpus.arrives_unperturbed(render(ready(request, "drop")))


@PROPERTY
@given(messages())
def test_rendering_twice_gives_the_same(request: list[BaseMessage]) -> None:
    prepared = ready(request, "drop")
    assert render(prepared) == render(prepared)
    assert prepared.unchanged() == prepared.unchanged()


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300) | st.text("ABCDEFabcdef0123456789+/=\n", min_size=32, max_size=300))
def test_ordinary_text_is_never_mistaken_for_a_medium(text: str) -> None:
    assert find_spans(text) == []
    assert ready([HumanMessage(text)], "error").records == ()
