from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage

from smoothguard_guardrail import ConfigurationError, GuardComponents, SmoothGuardConfig, VoteConfig
from smoothguard_guardrail.core.effects import CallModel, drive
from smoothguard_guardrail.core.flow import Guard
from smoothguard_guardrail.core.model_info import ModelInfo
from smoothguard_guardrail.core.model_input import ModelInput
from smoothguard_guardrail.evaluation.items import Item
from smoothguard_guardrail.evaluation.mappers import InProcesses, InThreads
from smoothguard_guardrail.evaluation.replay import (
    CachedClusterer,
    CopyAnswers,
    ask_copies,
    cached_components,
    item_seed,
    replay,
)
from smoothguard_guardrail.evaluation.shared import CachedEmbeddings
from smoothguard_guardrail.models import load_model
from smoothguard_guardrail.models.reference.demo import DEMO_DIR, load_demo
from smoothguard_guardrail.perturbations import make_generator
from smoothguard_guardrail.result import GuardResult
from smoothguard_guardrail.testing import ScriptedChatModel, WordEmbeddings
from smoothguard_guardrail.voting import AgglomerativeClusterer
from tests.helpers import png, question

WORDS = ["The code is 7391.", "I'm sorry, I can't.", "No, I won't.", "Two", "2", "two objects"]
EMBEDDINGS = CachedEmbeddings(WordEmbeddings())

texts = st.sampled_from([*WORDS, None])
records = st.builds(
    CopyAnswers,
    item_id=st.just("one"),
    answers=st.lists(texts, min_size=9, max_size=9).map(tuple),
    clean=st.sampled_from(WORDS),
)
rules = st.fixed_dictionaries(
    {
        "num_samples": st.integers(2, 9),
        "include_clean": st.booleans(),
        "early_stop": st.sampled_from(["lossless", None, 0.05, 0.3]),
        "vote": st.builds(
            VoteConfig,
            clusterer=st.sampled_from(["agglomerative", "kmeans"]),
            benign_weight=st.sampled_from([0.0, 0.2, 0.45]),
            min_agreement=st.sampled_from([0.0, 0.7]),
            on_abstain=st.sampled_from(["answer", "refuse", "raise"]),
        ),
    }
)


def live(config: SmoothGuardConfig, answers: list[str | None]) -> GuardResult | Exception:
    """Guard a real request whose samples get these answers, without anything of a replay."""

    def call(effect: CallModel) -> list[AIMessage | Exception]:
        wave = answers[effect.first_index :][: len(effect.requests)]
        return [RuntimeError("down") if text is None else AIMessage(text) for text in wave]

    guard = Guard(config, components=GuardComponents(embedder=WordEmbeddings()))
    try:
        return drive(guard.flow(question()), call)
    except Exception as error:
        return error


@pytest.mark.slow
@settings(deadline=None, max_examples=80)
@given(records, rules)
def test_a_replay_elects_what_a_guard_elects(record: CopyAnswers, rule: dict[str, Any]) -> None:
    config = SmoothGuardConfig(seed=1, device="cpu", **rule)
    guarded = live(config, [*([record.clean] if config.include_clean else []), *record.answers])
    (replayed,) = replay(config, [record], components=cached_components(config, embedder=EMBEDDINGS))
    if isinstance(guarded, GuardResult):
        assert replayed.text == guarded.answer.text
        assert (replayed.verdict, replayed.error) == (guarded.verdict, None)
        assert (replayed.num_calls, replayed.agreement) == (guarded.num_calls, guarded.agreement)
        assert replayed.num_clusters == len(guarded.clusters)
    else:
        assert replayed.text == ""
        assert replayed.error is not None
        assert replayed.error.startswith(type(guarded).__name__)


def test_equal_records_are_told_apart_by_their_items() -> None:
    config = SmoothGuardConfig(num_samples=2)
    rows = [CopyAnswers(item_id=name, answers=("Two", "2")) for name in "ab"]
    first, second = replay(config, rows, components=cached_components(config, embedder=EMBEDDINGS))
    assert (first.item_id, second.item_id) == ("a", "b")
    assert first.model_copy(update={"item_id": "b"}) == second


def test_other_copies_are_another_draw() -> None:
    config = SmoothGuardConfig(num_samples=2, early_stop=None, vote=VoteConfig(refusal_share=0.6, min_agreement=0.0))
    record = CopyAnswers(item_id="one", answers=("Two", "Two", "cat", "cat"))
    components = cached_components(config, embedder=EMBEDDINGS)
    assert [replay(config, [record], components=components, first_copy=first)[0].text for first in (0, 2)] == [
        "Two",
        "cat",
    ]


def test_a_record_that_is_too_short_is_refused() -> None:
    record = CopyAnswers(item_id="one", answers=("Two",) * 3)
    with pytest.raises(ConfigurationError, match="4 copies are needed"):
        replay(SmoothGuardConfig(num_samples=4), [record])
    with pytest.raises(ConfigurationError, match="clean answer"):
        replay(SmoothGuardConfig(num_samples=4, include_clean=True), [record])


def test_embeddings_and_clusters_are_computed_once() -> None:
    class Counting(WordEmbeddings):
        count = 0

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            self.count += len(texts)
            return super().embed_documents(texts)

    inner = Counting()
    kept = CachedEmbeddings(inner)
    assert kept.embed_documents(["a", "b", "a"]) == inner.embed_documents(["a", "b", "a"])
    inner.count = 0
    assert kept.embed_query("a") == kept.embed_documents(["b", "a"])[1]
    assert inner.count == 0
    clusters = CachedClusterer(AgglomerativeClusterer())
    labels = clusters(["a", "b", "c"], lambda texts: np.eye(3))
    assert clusters(["a", "b", "c"], lambda texts: np.ones((3, 3))) is labels


def picture_item(folder: Path, name: str = "one") -> Item:
    path = folder / f"{name}.png"
    path.write_bytes(png())
    return Item(id=name, question="What is it?", media=(path,))


def test_copies_of_a_remote_model_are_encoded_pictures_and_failures_are_kept(tmp_path: Path) -> None:
    items = [picture_item(tmp_path, name) for name in ("one", "two")]
    lock, seen = threading.Lock(), set[str]()

    def script(messages: Any) -> str:
        data = messages[0].content[0]["base64"]
        with lock:
            seen.add(data)
            if len(seen) == 3:
                raise RuntimeError("busy")
        return "A square."

    model = ScriptedChatModel(script=script)
    config = SmoothGuardConfig(device="cpu")
    found = ask_copies(model, config, items, num_copies=3, seed=1, with_clean=True, mapper=InThreads(1))
    assert [record.item_id for record in found] == ["one", "two"]
    assert len(seen) == 7  # three noisy copies of each, and the same clean picture
    (failed,) = [record for record in found if record.errors]
    assert list(failed.errors.values()) == ["RuntimeError: busy"]
    assert all(record.clean == "A square." or -1 in record.errors for record in found)
    paper = SmoothGuardConfig.paper(num_samples=4)
    voted = replay(paper, found, components=cached_components(paper, embedder=EMBEDDINGS))
    assert [(each.text, each.num_calls) for each in voted] == [("A square.", 4)] * 2


def test_the_noise_is_that_of_the_item_alone(tmp_path: Path) -> None:
    items = [picture_item(tmp_path, name) for name in ("one", "two")]

    def asked(items: list[Item], seed: int) -> list[str]:
        model = ScriptedChatModel(script=["A square."])
        ask_copies(model, SmoothGuardConfig(device="cpu"), items, num_copies=2, seed=seed)
        return sorted(messages[0].content[0]["base64"] for messages in model.received)  # type: ignore[index]

    both, alone = asked(items, 1), asked(items[1:], 1)
    assert set(alone) < set(both)
    assert set(both).isdisjoint(asked(items, 2))
    assert len(set(both)) == 4


def test_nothing_to_ask_is_refused(tmp_path: Path) -> None:
    model = ScriptedChatModel(script=["A square."])
    with pytest.raises(ConfigurationError, match="num_copies"):
        ask_copies(model, SmoothGuardConfig(), [picture_item(tmp_path)], num_copies=0, seed=1)
    with pytest.raises(ConfigurationError, match="nothing to perturb"):
        ask_copies(model, SmoothGuardConfig(), [Item(id="one", question="What?")], num_copies=1, seed=1)
    assert model.received == []


@pytest.fixture(scope="module")
def demo_items() -> list[Item]:
    return [
        Item(id=picture.file, question=picture.question, media=(DEMO_DIR / picture.file,))
        for picture in load_demo().pictures[:2]
    ]


def test_copies_are_perturbed_as_an_attack_through_the_guard_sees_them(demo_items: list[Item]) -> None:
    config = SmoothGuardConfig.reference(device="cpu")
    chat: Any = load_model("reference")
    shown: list[Any] = []
    inner = type(chat).generate_batch

    class Spying(type(chat)):  # type: ignore[misc]
        def generate_batch(self, batch: Any, **kwargs: Any) -> Any:
            shown.extend(messages[0].content[0]["image"] for messages in batch)
            return inner(self, batch, **kwargs)

    spy = Spying(hf_model=chat.hf_model, processor=chat.processor)
    (record,) = ask_copies(spy, config, demo_items[:1], num_copies=3, seed=7)
    original = question_picture(demo_items[0])
    expected = ModelInput(config=config, model_info=ModelInfo.find(chat)).image_perturber()(
        original.expand(3, *original.shape), generator=make_generator(item_seed(7, demo_items[0].id), 0, 0)
    )
    assert len(record.answers) == len(shown) == 3
    assert all((copy == row).all() for copy, row in zip(shown, expected, strict=True))


def question_picture(item: Item) -> Any:
    from PIL import Image

    from smoothguard_guardrail.media.image import decode_pillow

    with Image.open(item.media[0]) as picture:
        return decode_pillow(picture).unit


@pytest.mark.slow
def test_other_processes_load_a_model_by_its_name(demo_items: list[Item]) -> None:
    config = SmoothGuardConfig.reference(device="cpu")
    here = ask_copies("reference", config, demo_items, num_copies=2, seed=7, with_clean=True)
    mapper = InProcesses(1)
    try:
        there = ask_copies("reference", config, demo_items, num_copies=2, seed=7, with_clean=True, mapper=mapper)
    finally:
        mapper.close()
    assert here == there
    assert here[0].clean
