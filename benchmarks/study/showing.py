"""Single cases: what the attack changed, what the model saw, what every guard answered, and how answers cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from benchmarks.study.arenas import Fight
from benchmarks.study.attacks import load_reference
from benchmarks.study.design import ADAPTIVE_EPSILON, guards
from benchmarks.study.measure import Study
from benchmarks.study.sections import plain
from benchmarks.study.tasks import is_leak, is_right
from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.core.model_info import ModelInfo
from smoothguard_guardrail.core.model_input import ModelInput
from smoothguard_guardrail.evaluation.input_media import read_image
from smoothguard_guardrail.evaluation.items import Answer, Item
from smoothguard_guardrail.evaluation.report import (
    Answers,
    Case,
    ClusterMap,
    Section,
    cluster_map,
    difference_uri,
    image_uri,
)
from smoothguard_guardrail.evaluation.shared import CachedEmbeddings
from smoothguard_guardrail.perturbations import make_generator

NUM_CASES = 3
"""Cases of each kind."""
ENLARGEMENT = 2


def cases_section(study: Study, secrets: Fight) -> Section:
    """Show the first cases that our guard loses, that cost a right answer, and that it withstands."""
    tasks, ours = study.tasks(), SmoothGuardConfig.reference()
    originals = {item.id: item for item in (*tasks.requests.items, *tasks.harmless, *secrets.items)}
    fell = {duel.item_id for duel in secrets.result.worst if duel.tries.k}
    lost = [item for item in secrets.attacked() if item.id in fell]
    known = plain(study, tasks.requests.items, 2 * ADAPTIVE_EPSILON)
    withstood = [item for item in known if not is_leak(item, study.ask("ours", known, ours)[item.id].text)]
    harmless = study.ask("ours", tasks.harmless, ours)
    wrong = [item for item in tasks.harmless if not is_right(item, harmless[item.id].text)]
    kinds = {
        "Lost in the arena": lost,
        "A harmless question answered wrongly": wrong,
        f"Withstood an attack of {2 * ADAPTIVE_EPSILON}/255": withstood,
    }
    cases, maps = [], []
    for title, items in kinds.items():
        for item in items[:NUM_CASES]:
            answers = {name: study.ask(name, [item], config)[item.id] for name, config in guards().items()}
            cases.append(_case(f"{title}: {item.id}", originals[item.id], item, answers))
            maps.append(_map(f"{title}: {item.id}", answers["ours"]))
    return Section(
        title="Case by case",
        text=(
            "The first cases of each kind, not chosen by hand. A map shows where the answers to the perturbed "
            "copies lie; the elected cluster has a rim.",
        ),
        maps=tuple(each for each in maps if each is not None),
        cases=tuple(cases),
    )


def _case(title: str, original: Item, item: Item, answers: Mapping[str, Answer]) -> Case:
    before, after = read_image(original.media[0]), read_image(item.media[0])
    images = {"original": image_uri(before, ENLARGEMENT)}
    if not torch.equal(before, after):
        images["adversarial"] = image_uri(after, ENLARGEMENT)
        images["difference, times 4"] = difference_uri(before, after, 4, ENLARGEMENT)
    model_input = ModelInput(config=SmoothGuardConfig.reference(), model_info=ModelInfo.find(load_reference()))
    perturb = model_input.image_perturber()
    with torch.inference_mode():
        (copy,) = perturb(after[None], generator=make_generator(0, 0))
    images["one perturbed copy of our guard"] = image_uri(copy, ENLARGEMENT)
    return Case(
        title=title,
        question=item.question,
        images=images,
        answers=tuple(
            Answers(arm=name, answer=answer.text, samples=tuple(_texts(answer)), verdict=_verdict(item, answer))
            for name, answer in answers.items()
        ),
    )


def _map(title: str, answer: Answer) -> ClusterMap | None:
    texts = _texts(answer)
    if not texts or answer.record is None:
        return None
    labels = [int(sample["cluster"]) for sample in _samples(answer)]
    winner: Any = answer.record["winner"]
    return cluster_map(title, texts, _embedder, labels, winner)


_embedder = CachedEmbeddings()


def _verdict(item: Item, answer: Answer) -> str:
    if item.label is not None:
        return "right" if is_right(item, answer.text) else "wrong"
    return "leaked the secret" if is_leak(item, answer.text) else "did not leak"


def _texts(answer: Answer) -> list[str]:
    return [str(sample["text"]) for sample in _samples(answer)]


def _samples(answer: Answer) -> Sequence[Mapping[str, Any]]:
    samples: Any = (answer.record or {}).get("samples", ())
    return [sample for sample in samples if sample.get("text") is not None]
