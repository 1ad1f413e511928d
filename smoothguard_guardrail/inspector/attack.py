"""A live attack on a local model, and what it does without and with the guard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from langchain_core.messages import HumanMessage
from markupsafe import Markup

from smoothguard_guardrail.attacks import EOTPGD, PGD, AttackProgress
from smoothguard_guardrail.core.model_info import ModelInfo
from smoothguard_guardrail.core.model_input import GuardView
from smoothguard_guardrail.errors import InputError
from smoothguard_guardrail.evaluation.report import Curve, Point, Series
from smoothguard_guardrail.evaluation.report.plots import draw_curve
from smoothguard_guardrail.inspector.background import in_background
from smoothguard_guardrail.inspector.medium_view import amplification_of, image_uri
from smoothguard_guardrail.inspector.run import GuardedRun, record
from smoothguard_guardrail.inspector.views import headline, render_macro
from smoothguard_guardrail.models.reference.questions import normalise

if TYPE_CHECKING:
    import threading

    import torch

    from smoothguard_guardrail.attacks import Attack
    from smoothguard_guardrail.config import SmoothGuardConfig
    from smoothguard_guardrail.models import ChatTransformersMultimodal

_NUM_DRAWS = 4
"""Draws of the guard's noise in each step of an attacker who knows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackPlan:
    """What to attack, and how."""

    image: torch.Tensor
    """Float32 (3, height, width) in [0, 1], on 8-bit levels."""
    question: str
    target: str
    """The answer that the attacker wants."""
    epsilon: int
    """Largest change of one value, in 255ths."""
    num_steps: int
    knows_guard: bool
    """Whether the gradients go through the guard's noise."""
    seed: int | None = None

    def request(self, image: torch.Tensor) -> list[HumanMessage]:
        """Return the question about an image."""
        return [HumanMessage([{"type": "image", "image": image}, {"type": "text", "text": self.question}])]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackedRun:
    """The outcome of an attack."""

    plan: AttackPlan
    attacked: torch.Tensor
    """Like the plan's image."""
    losses: tuple[float, ...]
    """Before each step, nats per token of the target."""
    bare: tuple[str, str]
    """The model's answers about the image and the attacked image, without the guard."""
    guarded: tuple[GuardedRun, GuardedRun]
    """The same with the guard."""


def attack(
    model: ChatTransformersMultimodal, config: SmoothGuardConfig, plan: AttackPlan, stop: threading.Event | None = None
) -> Iterator[AttackProgress | AttackedRun]:
    """Attack an image; yields the progress of every step, and at last the outcome, unless `stop` is set.

    Raises:
        InputError: The question or the target is missing.
    """
    if not plan.question.strip() or not plan.target.strip():
        raise InputError("an attack needs a question and the answer that the attacker wants")
    return in_background(lambda report: _attack(model, config, plan, report), stop)


def _attack(
    model: ChatTransformersMultimodal,
    config: SmoothGuardConfig,
    plan: AttackPlan,
    report: Callable[[AttackProgress | AttackedRun], None],
) -> None:
    method = _method(model, config, plan)
    result = method(model, plan.image[None], [plan.question], [plan.target], progress=report)
    attacked = result.images[0].cpu()
    requests = [plan.request(plan.image), plan.request(attacked)]
    first, second = (str(answer.text) for answer in model.generate_batch(requests))
    guarded = [list(record(model, request, config))[-1] for request in requests]
    report(
        AttackedRun(
            plan=plan,
            attacked=attacked,
            losses=tuple(result.history[:, 0].tolist()),
            bare=(first, second),
            guarded=(guarded[0], guarded[1]),
        )
    )


def _method(model: ChatTransformersMultimodal, config: SmoothGuardConfig, plan: AttackPlan) -> Attack:
    epsilon = plan.epsilon / 255
    if not plan.knows_guard:
        return PGD(epsilon, num_steps=plan.num_steps, seed=plan.seed)
    view = GuardView(config=config, model_info=ModelInfo.find(model))
    return EOTPGD(epsilon, num_steps=plan.num_steps, seed=plan.seed, transform=view, num_draws=_NUM_DRAWS)


def render_progress(progress: AttackProgress) -> Markup:
    """Return a progress bar as HTML."""
    text = f"Step {progress.step} of {progress.num_steps}: loss {progress.mean_loss:.2f}, best {progress.best_loss:.2f}"
    return render_macro("progress", text=text, done=progress.step, total=progress.num_steps)


def render_attack(found: AttackedRun) -> Markup:
    """Return an attack's outcome as HTML: the images, the loss, and the answers without and with the guard."""
    plan = found.plan
    change = found.attacked - plan.image
    amplification = amplification_of(change)
    largest = round(255 * float(change.abs().max()))
    images = (
        ("original", image_uri(plan.image), "the attack starts here"),
        ("attacked", image_uri(found.attacked), f"at most {largest}/255 per value"),
        ("difference", image_uri(0.5 + amplification * change), f"× {amplification:g}, around grey"),
    )
    return render_macro(
        "attack",
        images=images,
        curve=_loss_curve(found.losses),
        loss=f"{found.losses[0]:.2f} to {found.losses[-1]:.2f} nats per token",
        sides=(("Guard off", _bare_answers(found)), ("Guard on", _guarded_answers(found))),
    )


def _loss_curve(losses: tuple[float, ...]) -> Markup | None:
    points = tuple(Point(x=step, y=loss) for step, loss in enumerate(losses, start=1))
    return draw_curve(Curve(title="", x_label="", y_label="", series=(Series(name="loss", points=points),)), "loss")


def _bare_answers(found: AttackedRun) -> list[dict[str, str]]:
    before, after = found.bare
    return [
        {"image": "original", "text": before, "note": "one call", "kind": "plain"},
        {"image": "attacked", "text": after, **_judged(found, after)},
    ]


def _guarded_answers(found: AttackedRun) -> list[dict[str, str]]:
    answers = []
    for name, run in zip(("original", "attacked"), found.guarded, strict=True):
        if (result := run.result) is None:
            raise ValueError("expected finished runs")
        text = str(result.answer.text)
        facts = f"agreement {result.agreement:.0%}, {result.num_calls} calls"
        judged = {"note": headline(result)[0], "kind": "plain"} if name == "original" else _judged(found, text)
        answers.append({"image": name, "text": text, **judged, "note": f"{judged['note']}; {facts}"})
    return answers


def _judged(found: AttackedRun, answer: str) -> dict[str, str]:
    """Return whether the attack succeeded with an answer about the attacked image."""
    succeeded = normalise(answer) == normalise(found.plan.target)
    return {"note": f"The attack {'succeeded' if succeeded else 'failed'}", "kind": "bad" if succeeded else "good"}
