"""The study runs from end to end, and the measurements page and the preset agree with its committed report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.study import arenas, sections, summary
from benchmarks.study.__main__ import run
from benchmarks.study.design import CANDIDATES, EPSILONS, PERTURBATIONS, SCALES, Scale, guards
from benchmarks.study.detection import ATTACKS
from benchmarks.study.measure import ARENA_SCENES, Study
from benchmarks.study.sections import ADAPTIVE, CLEAN, CONTROL, OVER_REFUSAL, POPE, attacked, headline
from benchmarks.study.summary import markdown
from benchmarks.study.tasks import make_tasks, target_of
from smoothguard_guardrail import SmoothGuardConfig
from smoothguard_guardrail.config import MediaConfig
from smoothguard_guardrail.evaluation.attackers import Attacker, AttackSettings, default_attackers
from smoothguard_guardrail.evaluation.mappers import InThreads
from smoothguard_guardrail.evaluation.report import Report, Table, render_html
from smoothguard_guardrail.evaluation.statistics import Rate

ROOT = Path(__file__).parents[1]
TINY = Scale(
    items=2,
    swept=1,
    candidates=1,
    arena=2,
    fooled=2,
    gradients=2,
    escalated=1,
    num_steps=1,
    candidate_budgets=((1, 1),),
    budgets=((1, 1), (2, 1)),
)


@pytest.fixture(scope="module")
def published() -> Report:
    return Report.model_validate_json((ROOT / "docs/study/report.json").read_bytes())


def guards_table(report: Report) -> Table:
    return report.sections[0].tables[0]


def attackers_that_sections_name(config: SmoothGuardConfig, **options: Any) -> tuple[Attacker, ...]:
    attackers = default_attackers(config, num_draws=2, **options)
    return tuple(each for each in attackers if each.name in (*arenas.FOOLING, *ATTACKS))


@pytest.mark.slow
def test_the_study_runs_and_goes_on_from_what_it_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each of these costs seconds and runs the same code.
    for name in list(PERTURBATIONS)[1:]:
        monkeypatch.delitem(PERTURBATIONS, name)
    for module in (sections, summary):
        monkeypatch.setattr(module, "EPSILONS", EPSILONS[1::2])
    monkeypatch.setattr(arenas, "ARENA_SCENES", ARENA_SCENES[:2])
    monkeypatch.setattr(arenas, "default_attackers", attackers_that_sections_name)
    monkeypatch.setattr(sections, "SIGMAS", (0.0, 0.3))
    study = Study(folder=tmp_path, scale=TINY, mapper=InThreads(1))
    report, table = run(study, scale="tiny")
    answers = (tmp_path / "answers.jsonl").read_bytes()
    assert table.splitlines()[0] == f"| | {' | '.join(guards())} |"
    assert [line.split(" | ")[0] for line in table.splitlines()[2:]] == [
        *(f"| attacked {epsilon}/255" for epsilon in EPSILONS[1::2]),
        *(f"| {name}" for name in (ADAPTIVE, CONTROL, CLEAN, POPE, OVER_REFUSAL, "mean calls")),
    ]
    assert Report.model_validate_json(report.model_dump_json()) == report
    assert "<title>" in render_html(report)
    assert markdown(headline(Study(folder=tmp_path, scale=TINY, mapper=InThreads(1)))) == table
    assert (tmp_path / "answers.jsonl").read_bytes() == answers


def test_tasks_are_held_out_and_repeatable(tmp_path: Path) -> None:
    one, other = (make_tasks(tmp_path / name, 12, seed=7) for name in ("one", "other"))
    for mine, theirs in zip(one.requests.items, other.requests.items, strict=True):
        assert mine.media[0].read_bytes() == theirs.media[0].read_bytes()
    assert {item.label for item in one.pope.items} == {"yes", "no"}
    assert {item.category for item in one.pope.items} == {"random", "popular", "adversarial"}
    for item in one.pope.items:
        assert target_of(item).startswith("No," if item.label == "yes" else "Yes,")
        assert str(item.details["object"]) in target_of(item)


def test_tasks_on_other_scenes_share_ids_but_no_attacked_image(tmp_path: Path) -> None:
    study = Study(folder=tmp_path, scale=replace(TINY, items=2), mapper=InThreads(1))
    attack = AttackSettings(epsilon=16 / 255, num_steps=1)
    one, other = (study.tasks(seed).requests.items for seed in (7, 8))
    assert [item.id for item in one] == [item.id for item in other]
    mine, theirs = (study.attacked(attack, items) for items in (one, other))
    assert not {item.media for item in mine} & {item.media for item in theirs}
    image = mine[0].media[0].read_bytes()
    mine[0].media[0].write_bytes(theirs[0].media[0].read_bytes())
    assert study.attacked(attack, one)[0].media[0].read_bytes() == image, "a swapped file must be made again"
    swapped = mine[0].model_copy(update={"media": other[0].media})
    assert study.attacked(attack, [swapped])[0].media == theirs[0].media


def test_the_measurements_page_shows_the_published_table(published: Report) -> None:
    page = (ROOT / "docs" / "measurements.md").read_text(encoding="utf-8")
    rates = [cell for row in guards_table(published).rows for cell in row if isinstance(cell, Rate)]
    assert len(rates) > 30
    assert [rate for rate in rates if str(rate) not in page] == []


def test_the_preset_is_the_choice_of_the_published_study(published: Report) -> None:
    ours = SmoothGuardConfig.reference()
    environment = published.environment
    used = dict(environment["guards"]["ours"])  # type: ignore[index,call-overload]
    used.pop("media")  # limits on requests, which changed nothing here
    # Settings that are newer than the study are read as their defaults, which must then change nothing.
    assert SmoothGuardConfig(**used) == ours.override(media=MediaConfig())
    (chosen,) = (name for name in CANDIDATES if any(f"is: {name}." in text for text in published.summary))
    assert ours == SmoothGuardConfig().override(**CANDIDATES[chosen])


def test_the_published_study_is_the_standard_one(published: Report) -> None:
    columns = {row[0] for row in guards_table(published).rows}
    assert {attacked(epsilon) for epsilon in (8, 16, 32, 64)} <= columns
    assert published.environment["command"] == "python -m benchmarks.study --scale standard"
    assert SCALES["standard"].items >= 100
