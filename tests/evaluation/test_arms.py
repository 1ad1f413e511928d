"""Arms ask the same questions the same way, keep every answer, and count no failure as anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from langchain_core.messages import BaseMessage
from PIL import Image

from smoothguard_guardrail import GuardComponents, SmoothGuardConfig, VoteConfig
from smoothguard_guardrail.errors import AdapterError, ConfigurationError
from smoothguard_guardrail.evaluation import (
    Answer,
    Arm,
    InThreads,
    Item,
    ModelIdentity,
    noise_only,
    record_arms,
    run_arms,
    sweep,
    with_media,
)
from smoothguard_guardrail.evaluation.datasets import Pope
from smoothguard_guardrail.evaluation.replay import item_seed
from smoothguard_guardrail.testing import ScriptedChatModel, WordEmbeddings
from tests.evaluation.drawn import write_pope

CONFIG = SmoothGuardConfig(num_samples=3, early_stop=None, vote=VoteConfig(refusal_share=0.6, min_agreement=0.0))
WORDS: Any = {"components": GuardComponents(embedder=WordEmbeddings()), "components_name": "words"}


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    found = []
    for number in range(4):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (16, 12), (60 * number,) * 3).save(path)
        found.append(Item(id=f"popular/{number}", question=f"Is there {number}?", media=(path,)))
    return found


def run(model: Any, arms: list[Arm], folder: Path, **options: Any) -> dict[str, dict[str, Answer]]:
    return run_arms(model, arms, **{"folder": folder, "mapper": InThreads(2), "seed": 0} | options)


def pictures(model: ScriptedChatModel) -> dict[str, list[str]]:
    """What the model saw, by question."""
    seen: dict[str, list[str]] = {}
    for messages in model.received:
        *blocks, text = messages[0].content
        seen.setdefault(text["text"], []).extend(block["base64"] for block in blocks)  # type: ignore[index]
    return seen


def test_each_arm_asks_as_it_says(items: list[Item], tmp_path: Path) -> None:
    seen = {}
    for name, config in {"clean": None, "noise": noise_only(CONFIG), "guarded": CONFIG}.items():
        model = ScriptedChatModel(script=["No."])
        parts = WORDS if config else {}
        answers = run(model, [Arm(name=name, items=items, config=config, **parts)], tmp_path / name)
        assert {key: answer.text for key, answer in answers[name].items()} == {item.id: "No." for item in items}
        assert {answer.num_calls for answer in answers[name].values()} == {3 if name == "guarded" else 1}
        seen[name] = pictures(model)
    for item in items:
        (clean,), (noisy,) = seen["clean"][item.question], seen["noise"][item.question]
        assert clean != noisy
        assert len(set(seen["guarded"][item.question])) == 3


def test_an_items_noise_is_the_same_in_every_arm_and_recorded(items: list[Item], tmp_path: Path) -> None:
    seen = []
    for changes in ({"num_samples": 3}, {"num_samples": 3, "vote": {"distance_threshold": 0.5}}):
        model = ScriptedChatModel(script=["No."])
        arm = Arm(name="guarded", items=items, config=CONFIG.override(**changes), **WORDS)
        answers = run(model, [arm], tmp_path, seed=7)["guarded"]
        seen.append({question: sorted(found) for question, found in pictures(model).items()})
        assert [answers[item.id].record["seed"] for item in items] == [item_seed(7, item.id) for item in items]  # type: ignore[index]
    assert seen[0] == seen[1]
    assert len(seen[0]) == len(items)


def test_the_record_holds_the_texts_of_the_samples(items: list[Item], tmp_path: Path) -> None:
    arm = Arm(name="guarded", items=items[:1], config=CONFIG, **WORDS)
    (answer,) = run(ScriptedChatModel(script=["No.", "No.", "Yes."]), [arm], tmp_path)["guarded"].values()
    assert answer.text == "No."
    samples: Any = answer.record["samples"]  # type: ignore[index]
    assert sorted(sample["text"] for sample in samples) == ["No.", "No.", "Yes."]


def test_nothing_is_asked_twice_in_whatever_arm(items: list[Item], tmp_path: Path) -> None:
    twin = items[0].model_copy(update={"id": "random/9"})
    arms = [Arm(name="a", items=[*items, twin]), Arm(name="b", items=items)]
    model = ScriptedChatModel(script=["No."])
    told: list[tuple[int, int]] = []
    answers = run(model, arms, tmp_path, progress=lambda done, total: told.append((done, total)))
    assert len(model.received) == len(items)
    assert told == [(number, 4) for number in range(1, 5)]
    assert [answer.item_id for answer in answers["a"].values()] == [item.id for item in [*items, twin]]
    assert run(ScriptedChatModel(script=[RuntimeError("asked")]), arms, tmp_path) == answers


@pytest.mark.parametrize("what", ["question", "picture", "setting", "seed", "components", "model"])
def test_whatever_an_answer_depends_on_is_asked_anew(items: list[Item], tmp_path: Path, what: str) -> None:
    (item,) = items[:1]
    changed = Arm(name="g", items=[item], config=CONFIG, **WORDS)
    options: dict[str, Any] = {}
    run(ScriptedChatModel(script=["No."]), [changed], tmp_path)
    if what == "question":
        changed = Arm(name="g", items=[item.model_copy(update={"question": "Why?"})], config=CONFIG, **WORDS)
    elif what == "picture":
        Image.new("RGB", (16, 12), "red").save(item.media[0])
    elif what == "setting":
        changed = Arm(name="g", items=[item], config=CONFIG.override(sigma=0.2), **WORDS)
    elif what == "seed":
        options["seed"] = 1
    elif what == "components":
        changed = Arm(
            name="g",
            items=[item],
            config=CONFIG,
            components=GuardComponents(embedder=WordEmbeddings()),
            components_name="w",
        )
    else:
        options["identity"] = ModelIdentity(name="another")
    model = ScriptedChatModel(script=["Yes."])
    assert run(model, [changed], tmp_path, **options)["g"][item.id].text == "Yes."
    assert len(model.received) == 3


def test_knobs_that_change_no_answer_ask_nothing_anew(items: list[Item], tmp_path: Path) -> None:
    arm = Arm(name="g", items=items, config=CONFIG, **WORDS)
    answers = run(ScriptedChatModel(script=["No."]), [arm], tmp_path)
    other = Arm(name="g", items=items, config=CONFIG.override(max_concurrency=1, seed=3), **WORDS)
    assert run(ScriptedChatModel(script=[RuntimeError("asked")]), [other], tmp_path) == answers


def test_a_failure_is_recorded_and_tried_again(items: list[Item], tmp_path: Path) -> None:
    def reply(messages: list[BaseMessage]) -> str | Exception:
        return RuntimeError("down") if "2?" in str(messages[0].content[-1]) else "No."

    arms = [Arm(name="clean", items=items), Arm(name="guarded", items=items, config=CONFIG, **WORDS)]
    answers = run(ScriptedChatModel(script=reply), arms, tmp_path)
    failed = {name: by_id["popular/2"] for name, by_id in answers.items()}
    assert (failed["clean"].error, failed["clean"].text) == ("RuntimeError: down", "")
    assert str(failed["guarded"].error).startswith("QuorumError: 0 samples")
    assert failed["guarded"].num_calls == 3
    model = ScriptedChatModel(script=["Yes."])
    assert run(model, arms, tmp_path)["clean"]["popular/2"].text == "Yes."
    assert len(model.received) == 1 + 3


def test_a_missing_picture_fails_its_item_alone(items: list[Item], tmp_path: Path) -> None:
    items[1].media[0].unlink()
    answers = run(ScriptedChatModel(script=["No."]), [Arm(name="clean", items=items)], tmp_path)["clean"]
    assert [answer.error is None for answer in answers.values()] == [True, False, True, True]
    assert "InputError" in str(answers["popular/1"].error)


def test_an_arm_of_failures_alone_is_an_error(items: list[Item], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"all 4 .* 'clean' failed, the first with RuntimeError: down"):
        run(ScriptedChatModel(script=[RuntimeError("down")]), [Arm(name="clean", items=items)], tmp_path)


def test_a_model_that_only_fails_is_not_asked_for_ever(tmp_path: Path) -> None:
    items = [Item(id=str(number), question=f"{number}?") for number in range(500)]
    model = ScriptedChatModel(script=[RuntimeError("no key")])
    with pytest.raises(ConfigurationError, match="first 20 questions all failed, the first with RuntimeError: no key"):
        run(model, [Arm(name="clean", items=items)], tmp_path, mapper=InThreads(1))
    assert len(model.received) < 500


def test_a_broken_part_is_an_error_at_once(items: list[Item], tmp_path: Path) -> None:
    def broken(texts: Sequence[str]) -> list[Any]:
        return []

    arm = Arm(
        name="g",
        items=items,
        config=CONFIG,
        components=GuardComponents(stance_classifier=broken),
        components_name="broken",
    )
    with pytest.raises(AdapterError, match="stance_classifier"):
        run(ScriptedChatModel(script=["No."]), [arm], tmp_path)


def test_text_alone_goes_through_the_guard_and_is_skipped(tmp_path: Path) -> None:
    arm = Arm(name="g", items=[Item(id="1", question="Why?")], config=CONFIG, **WORDS)
    (answer,) = run(ScriptedChatModel(script=["So."]), [arm], tmp_path)["g"].values()
    assert (answer.text, answer.num_calls, answer.record["verdict"]) == ("So.", 1, "skipped")  # type: ignore[index]


def test_an_answer_that_the_guard_withholds_is_its_refusal_text(items: list[Item], tmp_path: Path) -> None:
    config = CONFIG.override(vote={"min_agreement": 0.9, "on_abstain": "raise", "refusal_text": "I'd rather not."})
    arm = Arm(name="g", items=items[:1], config=config, **WORDS)
    (answer,) = run(ScriptedChatModel(script=["one", "two", "three"]), [arm], tmp_path)["g"].values()
    assert (answer.text, answer.record["verdict"], answer.error) == ("I'd rather not.", "abstained", None)  # type: ignore[index]


def test_names_and_ids_have_to_be_their_own(items: list[Item], tmp_path: Path) -> None:
    model = ScriptedChatModel(script=["No."])
    for arms in (
        [],
        [Arm(name="a", items=items), Arm(name="a", items=items)],
        [Arm(name="a", items=[items[0], items[0]])],
        [Arm(name="a", items=[])],
        [Arm(name="a", items=items, **WORDS)],
    ):
        with pytest.raises(ConfigurationError):
            run(model, arms, tmp_path)
    assert model.received == []


def test_attacked_pictures_take_the_place_of_the_first(items: list[Item], tmp_path: Path) -> None:
    text = Item(id="text", question="Why?")
    files = {item.id: tmp_path / f"{number}-attacked.png" for number, item in enumerate(items)}
    attacked = with_media([*items, text], files)
    assert [item.media for item in attacked] == [*((path,) for path in files.values()), ()]
    assert [item.id for item in attacked] == [item.id for item in [*items, text]]
    with pytest.raises(ConfigurationError, match="popular/0"):
        with_media(items, {})


def test_a_sweep_takes_all_combinations() -> None:
    found = sweep(
        CONFIG, {"sigma": (0.1, 0.2), "vote.clusterer": ("kmeans", "agglomerative"), "vote.refusal_share": (0.6,)}
    )
    assert len(found) == 4
    assert found["sigma=0.2, vote.clusterer=kmeans, vote.refusal_share=0.6"] == CONFIG.override(
        sigma=0.2, vote={"clusterer": "kmeans"}
    )
    assert sweep(CONFIG, {}) == {}
    with pytest.raises(ConfigurationError, match="sigmas"):
        sweep(CONFIG, {"sigmas": (0.1,)})


def test_noise_alone_perturbs_alike_and_asks_once() -> None:
    for config in (SmoothGuardConfig(), SmoothGuardConfig.paper(), SmoothGuardConfig(vote=VoteConfig(min_successes=4))):
        alone = noise_only(config)
        assert (alone.num_samples, alone.include_clean, alone.sigma) == (1, False, config.sigma)


def test_failures_count_in_no_rate_and_arms_are_compared_in_pairs(tmp_path: Path) -> None:
    bench = Pope.load(write_pope(tmp_path / "pope"), splits=["popular"], complete=False)
    labels = {item.id: item.label for item in bench.items}
    right = {key: Answer(item_id=key, text=f"{label}.".capitalize()) for key, label in labels.items()}
    first, second = list(right)[:2]
    wrong = right | {second: Answer(item_id=second, text="No." if labels[second] == "yes" else "Yes.")}
    failed = wrong | {first: Answer(item_id=first, error="TimeoutError: late", num_calls=1)}
    arms = [Arm(name=name, items=bench.items) for name in ("right", "failed")]
    (one, other), (pair,) = record_arms(bench, arms, {"right": right, "failed": failed})
    accuracy: Any = other.scores.rows[-1].metrics["accuracy"]
    assert (accuracy.k, accuracy.n) == (4, 5)
    assert (other.num_errors, other.errors, other.scores.num_unscored) == (1, {"TimeoutError": 1}, 1)
    assert other.scores.outcomes[first] is None
    assert (pair.first, pair.second) == ("right", "failed")
    assert (pair.test.both, pair.test.only_first, pair.test.only_second) == (4, 1, 0)
    assert one.num_errors == 0


def test_the_shipped_model_answers_drawn_scenes(tmp_path: Path) -> None:
    bench = Pope.load(write_pope(tmp_path / "pope", num_pictures=2), splits=["popular"], complete=False)
    config = SmoothGuardConfig.reference(num_samples=4, vote={"refusal_share": 0.6, "min_agreement": 0.0})
    arms = [
        Arm(name="clean", items=bench.items),
        Arm(name="noise", items=bench.items, config=noise_only(config), **WORDS),
        Arm(name="guarded", items=bench.items, config=config, **WORDS),
    ]
    answers = run("reference", arms, tmp_path / "kept")
    (clean, _, guarded), pairs = record_arms(bench, arms, answers)
    for arm in (clean, guarded):
        accuracy: Any = arm.scores.rows[-1].metrics["accuracy"]
        assert accuracy.k >= 3
    assert clean.mean_calls == 1
    assert 2 <= guarded.mean_calls <= 4
    assert guarded.verdicts == {"passed": 4}
    assert len(pairs) == 3


def test_answers_of_another_device_are_asked_anew(
    items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from smoothguard_guardrail.evaluation import shared
    from smoothguard_guardrail.models import loading

    arms = [Arm(name="clean", items=items)]
    for kind, answer in (("cpu", "No."), ("cuda", "Yes."), ("cpu", "No.")):
        model = ScriptedChatModel(script=[answer])
        monkeypatch.setattr(shared, "_load", lambda spec, model=model: model)
        monkeypatch.setattr(loading, "pick_device", lambda device, kind=kind: torch.device(kind))
        answers = run("reference", arms, tmp_path)
        assert {each.text for each in answers["clean"].values()} == {answer}


def test_half_a_character_is_kept_and_written(items: list[Item], tmp_path: Path) -> None:
    arms = [Arm(name="a", items=items)]
    answers = run(ScriptedChatModel(script=["No \ud800."]), arms, tmp_path)
    assert {each.text for each in answers["a"].values()} == {"No ?."}
    assert run(ScriptedChatModel(script=[RuntimeError("asked")]), arms, tmp_path) == answers
    assert all(each.model_dump_json() for each in answers["a"].values())


def test_nothing_to_score_is_an_error_and_pictures_are_in_the_record(tmp_path: Path) -> None:
    bench = Pope.load(write_pope(tmp_path / "pope"), splits=["popular"], complete=False)
    failed = {item.id: Answer(item_id=item.id, error="TimeoutError: late") for item in bench.items}
    arm = Arm(name="clean", items=bench.items)
    with pytest.raises(ConfigurationError, match="no answer to score"):
        record_arms(bench, [arm], {"clean": failed})
    answers = {item.id: Answer(item_id=item.id, text="No.") for item in bench.items}
    (before,), _ = record_arms(bench, [arm], {"clean": answers})
    Image.new("RGB", (96, 96), "red").save(bench.items[0].media[0])
    (after,), _ = record_arms(bench, [arm], {"clean": answers})
    assert len(before.media_sha256) == 64
    assert before.media_sha256 != after.media_sha256
