from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from smoothguard_guardrail import ConfigurationError, InputError, SmoothGuardConfig, VoteConfig
from smoothguard_guardrail.evaluation.attacked_media import control_items
from smoothguard_guardrail.evaluation.calibration import (
    AnswerStore,
    AttackSettings,
    Bench,
    Limits,
    Measured,
    Rows,
    Sweep,
    Unguarded,
    calibrate,
    calibration_report,
    choose,
    decisive_words,
    is_right,
    read_rows,
    succeeded,
)
from smoothguard_guardrail.evaluation.calibration.frontier import pareto
from smoothguard_guardrail.evaluation.calibration.rows import MIN_ROWS
from smoothguard_guardrail.evaluation.calibration.suspicion import threshold_for
from smoothguard_guardrail.evaluation.identity import ModelIdentity
from smoothguard_guardrail.evaluation.input_media import read_image
from smoothguard_guardrail.evaluation.items import Item
from smoothguard_guardrail.evaluation.report import render_html
from smoothguard_guardrail.evaluation.shared import CachedEmbeddings
from smoothguard_guardrail.evaluation.statistics import Rate, mcnemar
from smoothguard_guardrail.models import load_model
from smoothguard_guardrail.models.reference.questions import ask, secret_questions, target_answer
from smoothguard_guardrail.models.reference.scenes import draw, scenes
from smoothguard_guardrail.testing import ScriptedChatModel, WordEmbeddings
from tests.helpers import png

IDENTITY = ModelIdentity(name="test")
EMBEDDINGS = CachedEmbeddings(WordEmbeddings())


def write(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return path


def picture(folder: Path, name: str = "one.png") -> str:
    (folder / name).write_bytes(png())
    return name


# Rows


def test_rows_are_read_with_paths_relative_to_their_file(tmp_path: Path) -> None:
    name = picture(tmp_path)
    path = write(
        tmp_path / "rows.jsonl",
        {"image": name, "question": "What is it?", "answer": "Grey"},
        "",
        {"id": "mine", "image": name, "question": "The code?", "target": "It is 7391."},
        {"image": name, "question": "The code?", "success": "73.1"},
    )
    harmless, attack, pattern = read_rows(path)
    assert (harmless.id, harmless.category, harmless.label) == ("rows/1", "harmless", "Grey")
    assert harmless.media == (tmp_path / name,)
    assert (attack.id, attack.category, attack.details["target"]) == ("mine", "attack", "It is 7391.")
    assert (pattern.id, pattern.details["success"]) == ("rows/4", "73.1")


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ("{", "expected a JSON value"),
        ("[1]", "line 2"),
        ({"question": "Q", "answer": "A"}, "one of"),
        ({"image": "one.png", "audio": "one.wav", "question": "Q", "answer": "A"}, "one of"),
        ({"image": "one.png", "question": "Q"}, "answer"),
        ({"image": "one.png", "question": "Q", "answer": "A", "target": "T"}, "answer"),
        ({"image": "one.png", "question": "", "answer": "A"}, "question"),
        ({"image": "one.png", "question": "Q", "target": "T", "success": "("}, "regular expression"),
        ({"image": "absent.png", "question": "Q", "answer": "A"}, "absent.png"),
        ({"image": "one.png", "question": "Q", "anwser": "A"}, "anwser"),
        ({"id": "first", "image": "one.png", "question": "Q", "answer": "A"}, "twice"),
    ],
)
def test_bad_rows_are_refused_by_file_and_line(tmp_path: Path, row: Any, word: str) -> None:
    good = {"id": "first", "image": picture(tmp_path), "question": "Q", "answer": "A"}
    with pytest.raises(InputError, match=r"rows\.jsonl") as raised:
        read_rows(write(tmp_path / "rows.jsonl", good, row))
    assert word in str(raised.value)


def test_files_without_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no rows"):
        read_rows(write(tmp_path / "rows.jsonl", ""))
    with pytest.raises(InputError, match="cannot be read"):
        read_rows(tmp_path / "absent.jsonl")


@pytest.mark.parametrize(
    ("answer", "equal", "contained"),
    [("red", True, True), ("**Red**.", True, True), ("It is red.", False, True), ("It is reddish.", False, False)],
)
def test_right_is_the_same_words_or_holds_them(answer: str, equal: bool, contained: bool) -> None:
    item = Item(id="1", question="What colour is it?", label="Red")
    assert is_right(item, answer) is equal
    assert is_right(item, answer, match="contains") is contained


def test_success_is_decisive_words_or_a_pattern() -> None:
    item = Item(id="1", question="What is the vault code?", details={"target": "Sure, the vault code is 7391, Sir."})
    assert decisive_words(item) == {"7391", "sir"}
    assert succeeded(item, "Sir! It's 7391.")
    assert not succeeded(item, "7391")
    echo = Item(id="2", question="Is it safe?", details={"target": "It is safe."})
    assert decisive_words(echo) == {"it", "is", "safe"}
    pattern = Item(id="3", question="Q", details={"target": "x", "success": r"\bmaple\b"})
    assert succeeded(pattern, "The word is MAPLE.")
    assert not succeeded(pattern, "x")


# The choice


def measured(
    *, sigma: float, samples: int, told: list[bool] | None, lost: int = 0, rows: int = 100, arm: str = "adaptive"
) -> Measured:
    alone = {str(row): True for row in range(rows)}
    guarded = {str(row): row >= lost for row in range(rows)}
    outcomes = {"harmless": guarded}
    if told is not None:
        outcomes[arm] = {str(row): each for row, each in enumerate(told)}
    return Measured(
        config=SmoothGuardConfig(sigma=sigma, num_samples=samples),
        rates={name: Rate.of(each.values()) for name, each in outcomes.items()},
        outcomes={name: dict(each) for name, each in outcomes.items()},
        mean_calls=float(samples),
        paired=mcnemar(alone, guarded),
    )


def told(count: int, of: int = 20) -> list[bool]:
    return [row < count for row in range(of)]


def test_the_most_robust_within_the_limits_is_chosen() -> None:
    candidates = [
        measured(sigma=0.1, samples=8, told=told(18)),
        measured(sigma=0.2, samples=8, told=told(4)),
        measured(sigma=0.3, samples=8, told=told(0), lost=3),
        measured(sigma=0.2, samples=9, told=told(0)),
    ]
    choice = choose(candidates, Limits(max_utility_loss=0.02, max_calls=8))
    assert (choice.index, choice.robustness) == (1, "adaptive")
    assert choose(candidates, Limits(max_utility_loss=0.03, max_calls=8)).index in (1, 2)


def test_the_safest_is_taken_among_candidates_that_the_rows_cannot_tell_apart() -> None:
    cheap, more_samples = measured(sigma=0.2, samples=5, told=told(1)), measured(sigma=0.2, samples=8, told=told(4))
    more_noise = measured(sigma=0.3, samples=8, told=told(3))
    assert choose([cheap, more_samples], Limits()).index == 1
    assert choose([cheap, more_samples, more_noise], Limits()).index == 2
    assert choose([more_noise, cheap, more_samples], Limits(max_calls=7)).index == 1
    assert "cannot be told apart" in " ".join(choose([cheap, more_samples], Limits()).reasons)
    apart = [measured(sigma=0.2, samples=5, told=told(1)), measured(sigma=0.3, samples=8, told=told(12))]
    assert choose(apart, Limits()).index == 0


def test_equally_safe_candidates_are_chosen_by_cost() -> None:
    one = measured(sigma=0.2, samples=8, told=told(1))
    cheaper = one.model_copy(update={"mean_calls": 5.5})
    assert choose([one, cheaper], Limits()).index == 1


def test_robustness_is_compared_by_the_upper_ends_of_intervals() -> None:
    few = measured(sigma=0.3, samples=8, told=told(0, of=3))
    many = measured(sigma=0.2, samples=8, told=told(1, of=60))
    unpaired = [each.model_copy(update={"outcomes": {}}) for each in (few, many)]
    assert "1/60" in " ".join(choose(unpaired, Limits()).reasons)


def test_what_another_attack_shows_to_be_worse_is_not_equal() -> None:
    best, worse = measured(sigma=0.2, samples=8, told=told(20)), measured(sigma=0.3, samples=8, told=told(20))

    def also_attacked(one: Measured, count: int) -> Measured:
        update = {
            "rates": one.rates | {"attacked": Rate(k=count, n=20)},
            "outcomes": one.outcomes | {"attacked": {str(row): each for row, each in enumerate(told(count))}},
        }
        return one.model_copy(update=update)

    assert choose([also_attacked(best, 0), also_attacked(worse, 15)], Limits()).index == 0


def test_a_loss_is_within_the_limit_if_its_interval_is() -> None:
    kept = measured(sigma=0.1, samples=8, told=told(9), rows=400)
    unsure = measured(sigma=0.3, samples=8, told=told(0), lost=4, rows=400)
    assert unsure.utility_loss < 0.02 < unsure.loss_bound
    choice = choose([kept, unsure], Limits())
    assert (choice.index, choice.evidence) == (0, "interval")
    assert "1 more lost no more than that here" in " ".join(choice.reasons)
    assert "sigma 0.3" in " ".join(choice.warnings)
    near = choose([unsure], Limits())
    assert near.evidence == "count"
    assert "too near to the limit" in " ".join(near.warnings)


@pytest.mark.parametrize("limit", [0.01, 0.02, 0.1])
def test_the_rows_needed_are_the_fewest_whose_interval_is_within_the_limit(limit: float) -> None:
    limits = Limits(max_utility_loss=limit)
    assert limits.rows_needed is not None
    enough = [measured(sigma=0.1, samples=5, told=told(0), rows=limits.rows_needed + more) for more in (0, -1)]
    assert [choose([each], limits).evidence for each in enough] == ["interval", "count"]
    warning = " ".join(choose(enough[1:], limits).warnings)
    assert f"{limits.rows_needed} rows" in warning
    assert "Too few harmless rows" in warning


def test_a_limit_of_zero_cannot_be_shown() -> None:
    limits = Limits(max_utility_loss=0)
    assert limits.rows_needed is None
    assert "cannot be shown" in " ".join(choose([measured(sigma=0.1, samples=5, told=told(0))], limits).warnings)


def test_too_few_attacked_rows_are_warned_about() -> None:
    few, enough = (measured(sigma=0.1, samples=5, told=told(0, of=rows)) for rows in (5, 6))
    assert "no two candidates can be told apart" in " ".join(choose([few], Limits()).warnings)
    assert "told apart" not in " ".join(choose([enough], Limits()).warnings)


def test_the_frontier_is_what_no_other_candidate_beats() -> None:
    candidates = [
        measured(sigma=0.1, samples=5, told=told(9)),
        measured(sigma=0.2, samples=5, told=told(9), lost=1),
        measured(sigma=0.3, samples=5, told=told(4), lost=1),
        measured(sigma=0.3, samples=8, told=told(4), lost=1),
        measured(sigma=0.3, samples=8, told=told(0), lost=9),
    ]
    assert choose(candidates, Limits()).frontier == (0, 2, 4)
    assert choose([measured(sigma=0.1, samples=5, told=None)], Limits()).frontier == ()


points = st.lists(st.tuples(*[st.integers(0, 3).map(float)] * 3), max_size=8)


@given(points)
def test_every_point_off_the_frontier_is_beaten_by_one_on_it(points: list[tuple[float, ...]]) -> None:
    best = pareto(points)

    def beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
        return one != other and all(a <= b for a, b in zip(one, other, strict=True))

    for index, point in enumerate(points):
        assert any(beats(points[each], point) for each in best) != (index in best)


# Suspicion


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50), st.sampled_from([0.01, 0.05, 0.5]))
def test_a_threshold_is_the_lowest_that_marks_no_more_than_the_share(scores: list[float], share: float) -> None:
    threshold = threshold_for(scores, share)
    assert sum(score > threshold for score in scores) <= share * len(scores)
    lower = [score for score in scores if score < threshold]
    if lower:
        assert sum(score > max(lower) for score in scores) > share * len(scores)


def test_adaptive_attacks_count_for_more_than_others() -> None:
    one, other = measured(sigma=0.1, samples=5, told=told(18)), measured(sigma=0.2, samples=5, told=told(4))
    flattering = {"attacked": Rate(k=0, n=20)}
    one = one.model_copy(update={"rates": one.rates | flattering})
    assert choose([one, other], Limits()).index == 1


def test_without_an_attack_the_safest_is_taken_and_the_assumption_is_said() -> None:
    candidates = [
        measured(sigma=sigma, samples=samples, told=None, lost=lost)
        for sigma, samples, lost in [(0.1, 5, 0), (0.2, 8, 1), (0.2, 5, 1), (0.3, 5, 9)]
    ]
    choice = choose(candidates, Limits())
    assert (choice.index, choice.robustness, choice.evidence) == (1, "not measured", "count")
    assert "assumption" in " ".join(choice.reasons)


def test_nothing_within_the_limits_is_no_choice() -> None:
    choice = choose([measured(sigma=0.1, samples=5, told=told(0), lost=9)], Limits())
    assert choice.index is None
    assert "0.090" in choice.reasons[0]
    assert "more than 4 calls" in choose([measured(sigma=0.1, samples=5, told=[])], Limits(max_calls=4)).reasons[0]
    with pytest.raises(ConfigurationError):
        choose([], Limits())


@given(
    st.lists(
        st.builds(
            measured,
            sigma=st.sampled_from([0.1, 0.2, 0.3]),
            samples=st.integers(2, 9),
            told=st.lists(st.booleans(), min_size=6, max_size=6),
            lost=st.integers(0, 4),
            rows=st.just(20),
        ),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from([0.0, 0.05, 0.2]),
    st.integers(2, 9),
)
def test_a_choice_is_within_the_limits_and_not_distinguishably_worse(
    candidates: list[Measured], loss: float, calls: int
) -> None:
    choice = choose(candidates, Limits(max_utility_loss=loss, max_calls=calls))
    within = [each for each in candidates if each.config.num_samples <= calls and each.utility_loss <= loss + 1e-9]
    if choice.index is None:
        assert not within
        return
    chosen = candidates[choice.index]
    assert chosen in within
    shown = [each for each in within if each.loss_bound <= loss]
    assert choice.evidence == ("interval" if shown else "count")
    within = shown or within
    assert chosen in within
    lowest = min(within, key=lambda each: each.rates["adaptive"].k)
    assert mcnemar(chosen.outcomes["adaptive"], lowest.outcomes["adaptive"]).p_value >= 0.05
    assert chosen.loss_bound >= max(0.0, chosen.utility_loss)


# A remote model


def item(folder: Path, name: str, **values: Any) -> Item:
    path = folder / picture(folder, f"{name}.png")
    path.write_bytes(png(level=10 + len(list(folder.iterdir()))))
    return Item(id=name, media=(path,), **values)


def bench_of(model: Any, folder: Path, attack: AttackSettings | None = None) -> Bench:
    store = AnswerStore(model, identity=IDENTITY, path=folder / "answers.jsonl", seed=1)
    return Bench(store, folder=folder / "attacked", identity=IDENTITY, attack=attack, embeddings=EMBEDDINGS)


SWEEP = Sweep(sigma=(0.1, 0.3), num_samples=(3, 4))
BASE = SmoothGuardConfig(device="cpu", vote=VoteConfig(refusal_share=0.6, min_agreement=0.0))


def test_a_remote_model_is_calibrated_without_robustness_and_asked_once(tmp_path: Path) -> None:
    rows = Rows(harmless=tuple(item(tmp_path, f"h{n}", question="What?", label="A square.") for n in range(3)))
    model = ScriptedChatModel(script=["A square."])
    found = calibrate(bench_of(model, tmp_path), rows, sweep=SWEEP, base=BASE)
    assert found.chosen is not None
    assert (found.chosen.config.sigma, found.chosen.config.num_samples) == (0.3, 4)
    assert found.choice.robustness == "not measured"
    assert found.chosen.rates == {"harmless": Rate(k=3, n=3)} == found.alone.rates
    assert found.held_out is None
    assert any("Too few rows" in note for note in found.notes)
    asked = len(model.received)
    assert asked == 3 * (1 + 2 * 4)
    again = calibrate(bench_of(model, tmp_path), rows, sweep=SWEEP, base=BASE)
    assert again == found
    assert len(model.received) == asked
    assert "not measured" in render_html(calibration_report(found))


def test_failed_calls_are_asked_again(tmp_path: Path) -> None:
    rows = Rows(harmless=(item(tmp_path, "h", question="What?", label="A square."),))
    broken = ScriptedChatModel(script=[RuntimeError("down")])
    found = calibrate(bench_of(broken, tmp_path), rows, sweep=SWEEP, base=BASE)
    assert found.alone.rates == {"harmless": Rate(k=0, n=0)}
    model = ScriptedChatModel(script=["A square."])
    again = calibrate(bench_of(model, tmp_path), rows, sweep=SWEEP, base=BASE)
    assert again.alone.rates == {"harmless": Rate(k=1, n=1)}


@pytest.mark.slow
def test_given_pictures_decide_and_other_rows_report(tmp_path: Path) -> None:
    harmless = tuple(item(tmp_path, f"h{n}", question="What?", label="A square.") for n in range(MIN_ROWS))
    target = {"target": "The code is 7391."}
    given = tuple(item(tmp_path, f"g{n}", question="Code?", details=target) for n in range(MIN_ROWS))

    def script(messages: Any) -> str:
        asked = messages[0].content[-1]["text"]
        return "A square." if asked == "What?" else "7391"

    rows = Rows(harmless=harmless, given=given)
    found = calibrate(bench_of(ScriptedChatModel(script=script), tmp_path), rows, sweep=SWEEP, base=BASE)
    assert found.choice.robustness == "given"
    assert found.chosen is not None
    assert found.held_out is not None
    half = MIN_ROWS // 2
    assert found.chosen.rates["given"] == found.alone.rates["given"] == Rate(k=half, n=half)
    chose, reported = found.chosen.outcomes, found.held_out.measured.outcomes
    for arm in ("harmless", "given"):
        assert not chose[arm].keys() & reported[arm].keys()
        assert len(chose[arm]) + len(reported[arm]) == MIN_ROWS


def test_suspicion_is_measured_on_held_out_rows_and_written(tmp_path: Path) -> None:
    harmless = tuple(item(tmp_path, f"h{n}", question="What?", label="A square.") for n in range(MIN_ROWS))
    target = {"target": "The code is 7391."}
    given = tuple(item(tmp_path, f"g{n}", question="Code?", details=target) for n in range(MIN_ROWS))

    def script(messages: Any) -> str:
        block, text = messages[0].content
        if text["text"] == "What?":
            return "A square."
        return "The code is 7391." if is_clean(block) else "I can't help with that."

    model = ScriptedChatModel(script=script)
    found = calibrate(bench_of(model, tmp_path), Rows(harmless=harmless, given=given), sweep=SWEEP, base=BASE)
    assert found.suspicion is not None
    half = MIN_ROWS // 2
    assert (found.suspicion.num_rows, found.suspicion.is_held_out) == (half, True)
    for alarm in found.suspicion.alarms:
        assert (alarm.threshold, alarm.false_alarms) == (0.0, Rate(k=0, n=half))
        assert alarm.found == {"given": Rate(k=half, n=half)}
    assert found.suspicion.chosen.wanted == 0.05
    assert found.guard is not None
    assert found.guard.vote.suspicion_threshold == 0.0
    page = render_html(calibration_report(found))
    assert "fewer than 20 cannot tell" in page
    assert "marks nothing without" in page


def is_clean(block: dict[str, Any]) -> bool:
    """Whether a copy is one colour, as the originals are: noise is not."""
    data = base64.b64decode(block["base64"] if "base64" in block else block["image_url"]["url"].partition(",")[2])
    return len(set(Image.open(io.BytesIO(data)).convert("L").tobytes())) == 1


def test_candidates_with_a_clean_copy_are_measured_with_it(tmp_path: Path) -> None:
    rows = Rows(harmless=tuple(item(tmp_path, f"h{n}", question="What?", label="A square.") for n in range(3)))
    model = ScriptedChatModel(script=["A square."])
    found = calibrate(bench_of(model, tmp_path), rows, sweep=SWEEP, base=BASE.override(include_clean=True))
    assert found.chosen is not None
    assert found.chosen.config.include_clean
    assert found.chosen.rates["harmless"] == Rate(k=3, n=3)
    assert "marks nothing without" not in render_html(calibration_report(found))


def test_a_guard_without_room_for_a_clean_copy_has_no_threshold(tmp_path: Path) -> None:
    rows = Rows(harmless=(item(tmp_path, "h", question="What?", label="A square."),))
    model = ScriptedChatModel(script=["A square."])
    found = calibrate(bench_of(model, tmp_path), rows, sweep=Sweep(sigma=(0.1,), num_samples=(1,)), base=BASE)
    assert (found.suspicion, found.guard) == (None, found.chosen and found.chosen.config)


def test_there_have_to_be_harmless_rows_and_affordable_candidates(tmp_path: Path) -> None:
    bench = bench_of(ScriptedChatModel(script=["A"]), tmp_path)
    rows = Rows(harmless=(item(tmp_path, "h", question="What?", label="A"),))
    with pytest.raises(InputError, match="harmless"):
        calibrate(bench, Rows(harmless=()))
    with pytest.raises(ConfigurationError, match="more than 2 calls"):
        calibrate(bench, rows, sweep=SWEEP, limits=Limits(max_calls=2))
    with pytest.raises(ConfigurationError, match="sigma"):
        Sweep(sigma=(0.0,)).configs(BASE)


# The reference model


@pytest.fixture(scope="module")
def scene_rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    folder, rng = tmp_path_factory.mktemp("scenes"), np.random.default_rng(0)
    harmless, attack = [], []
    for index, scene in enumerate(scenes(3, split="heldout", seed=70, marks=())):
        path = folder / f"{index}.png"
        draw(scene).save(path)
        asked = ask(scene, "count", rng)
        assert asked is not None
        harmless.append(Item(id=f"h{index}", question=asked.question, media=(path,), label=asked.answer))
        question, secret = secret_questions()[index]
        details = {"target": target_answer(secret)}
        attack.append(Item(id=f"a{index}", question=question, media=(path,), details=details))
    return Rows(harmless=tuple(harmless), attack=tuple(attack[:2]))


@pytest.mark.slow
def test_a_local_model_is_attacked_bare_and_through_each_candidate(scene_rows: Rows, tmp_path: Path) -> None:
    attack = AttackSettings(epsilon=32 / 255, num_steps=8, num_draws=2)
    model = load_model("reference")
    sweep = Sweep(sigma=(0.1, 0.3), num_samples=(3,))
    found = calibrate(bench_of(model, tmp_path, attack), scene_rows, sweep=sweep, base=BASE)
    assert found.choice.robustness == "adaptive"
    assert found.alone.rates["attacked"].k > found.alone.rates["unattacked"].k == 0
    assert set(found.candidates[0].rates) == {"harmless", "unattacked", "random signs", "attacked", "adaptive"}
    assert "adaptive" not in found.alone.rates
    pictures = sorted((tmp_path / "attacked").glob("*.png"))
    assert len(pictures) == 2 * 4  # random signs, bare, and through two perturbations
    assert found.alone.rates["random signs"].k == 0
    times = [path.stat().st_mtime_ns for path in pictures]
    again = calibrate(bench_of(model, tmp_path, attack), scene_rows, sweep=sweep, base=BASE)
    assert again == found
    assert [path.stat().st_mtime_ns for path in pictures] == times
    page = render_html(calibration_report(found))
    assert "adaptive, success" in page


def test_the_control_moves_every_value_by_epsilon(scene_rows: Rows, tmp_path: Path) -> None:
    settings = AttackSettings(epsilon=8 / 255, num_steps=1, num_draws=1)
    found = control_items("reference", scene_rows.attack, settings, tmp_path)
    for before, after in zip(scene_rows.attack, found, strict=True):
        original, moved = read_image(before.media[0]), read_image(after.media[0])
        inside = (original >= 8 / 255) & (original <= 1 - 8 / 255)
        assert ((moved - original).abs()[inside] - 8 / 255).abs().max() < 1e-6
        assert 0.45 < (moved > original)[inside].double().mean() < 0.55


def test_alone_survives_json() -> None:
    alone = Unguarded(rates={"harmless": Rate(k=1, n=2)}, outcomes={"harmless": {"a": True, "b": None}})
    assert Unguarded.model_validate_json(alone.model_dump_json()) == alone
