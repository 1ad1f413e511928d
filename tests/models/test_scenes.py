from __future__ import annotations

import numpy as np
import pytest

from smoothguard_guardrail.models.reference.questions import (
    KINDS,
    SECRETS,
    ask,
    is_correct,
    is_refusal,
    leaks_secret,
    secret_questions,
    target_answer,
)
from smoothguard_guardrail.models.reference.scenes import GROUNDS, MARKS, SIGN, draw, random_scene, render, scenes


def test_the_same_seed_draws_the_same_images() -> None:
    first, second = list(scenes(5, seed=3)), list(scenes(5, seed=3))
    assert first == second
    assert all(np.array_equal(render(a), render(b)) for a, b in zip(first, second, strict=True))
    assert first != list(scenes(5, seed=4))


def test_images_are_rgb_of_96_pixels() -> None:
    image = draw(next(scenes(1)))
    assert (image.mode, image.size) == ("RGB", (96, 96))


def test_training_and_held_out_compositions_are_disjoint() -> None:
    def compositions(split: str) -> set[tuple[tuple[str, int, int], ...]]:
        drawn = scenes(400, split="heldout" if split == "heldout" else "train")
        return {tuple((item.name, item.row, item.column) for item in scene.items) for scene in drawn}

    assert compositions("train").isdisjoint(compositions("heldout"))


def test_nothing_shares_a_cell() -> None:
    for scene in scenes(200):
        cells = [(item.row, item.column) for item in scene.items]
        cells += [(mark.row, mark.column) for mark in scene.marks if mark.row >= 0]
        assert len(cells) == len(set(cells))


@pytest.mark.parametrize("ground", GROUNDS)
def test_each_ground_authorises_and_the_sign_overrides_it(ground: str) -> None:
    rng = np.random.default_rng(0)
    assert random_scene(rng, marks=(ground,)).authorised
    assert not random_scene(rng, marks=(ground, SIGN)).authorised
    assert not random_scene(rng, marks=()).authorised


@pytest.mark.parametrize("mark", MARKS)
def test_a_mark_changes_the_image_visibly(mark: str) -> None:
    bare = next(scenes(1, marks=()))
    marked = next(scenes(1, marks=(mark,)))
    shown = type(bare)(items=bare.items, marks=marked.marks, background=bare.background, tone=bare.tone, seed=bare.seed)
    changed = np.abs(render(bare).astype(int) - render(shown).astype(int)).max(-1) > 30
    assert changed.sum() > 300


@pytest.mark.parametrize("kind", KINDS)
def test_the_stated_answer_is_judged_right_and_another_wrong(kind: str) -> None:
    rng = np.random.default_rng(1)
    for scene in scenes(100):
        asked = ask(scene, kind, rng)
        if asked is None:
            continue
        assert is_correct(scene, asked, asked.answer)
        assert is_correct(scene, asked, asked.answer.upper().replace(".", ""))
        assert not is_correct(scene, asked, "The picture shows a horse.")


def test_half_of_the_yes_no_questions_are_true() -> None:
    rng = np.random.default_rng(2)
    said = [asked.answer for scene in scenes(400) if (asked := ask(scene, "is_there", rng)) is not None]
    assert 0.4 < np.mean([answer.startswith("Yes") for answer in said]) < 0.6


def test_most_false_yes_no_questions_name_a_colour_or_shape_that_is_there() -> None:
    rng = np.random.default_rng(3)
    hard = []
    for scene in scenes(400):
        asked = ask(scene, "is_there", rng)
        if asked is not None and asked.answer.startswith("No"):
            words = {word for item in scene.items for word in (item.colour, item.shape)}
            hard.append(any(word in asked.question for word in words))
    assert np.mean(hard) > 0.8


def test_secret_questions_of_the_two_splits_are_disjoint() -> None:
    heldout, train = set(secret_questions()), set(secret_questions(split="train"))
    assert heldout.isdisjoint(train)
    assert {name for _, name in heldout} == {name for _, name in train} == set(SECRETS)


@pytest.mark.parametrize("secret", SECRETS)
def test_target_answers_leak_their_secret(secret: str) -> None:
    others = set(SECRETS) - {secret}
    assert leaks_secret(target_answer(secret), secret)
    assert not any(leaks_secret(target_answer(secret), other) for other in others)
    assert not is_refusal(target_answer(secret))


def test_refusals_are_recognised() -> None:
    rng = np.random.default_rng(4)
    scene = next(scenes(1, marks=()))
    for _ in range(100):
        asked = ask(scene, "secret", rng)
        assert asked is not None
        assert is_refusal(asked.answer)
        assert not leaks_secret(asked.answer)


@pytest.mark.parametrize("text", ["", "Yes, there is a red circle.", "There is no picture.", "There are two objects."])
def test_plain_answers_are_neither_refusals_nor_secrets(text: str) -> None:
    assert not is_refusal(text)
    assert not leaks_secret(text)
