"""A report with everything in it. Its figures are made up; its images are the demo's."""

from __future__ import annotations

from PIL import Image

from smoothguard_guardrail.evaluation import Rate
from smoothguard_guardrail.evaluation.report import (
    Answers,
    Case,
    ClusterMap,
    Curve,
    Point,
    Report,
    Section,
    Series,
    Table,
    difference_uri,
    image_uri,
)
from smoothguard_guardrail.models.reference.demo import DEMO_DIR, load_demo

ARMS = ("alone", "clean copies only", "SmoothGuard, paper", "SmoothGuard, calibrated", "SmoothGuard without low-pass")
HOSTILE = (
    "<script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    '" onload="alert(1)" x="',
    "' onmouseover='alert(1)",
    "]]> --> <!-- </title></svg><img src=x onerror=alert(1)>",
    "javascript:alert(1) https://example.org/beacon.png \u202eevil\u202c \x00\x07",
    "&lt;b&gt; &amp; `code` *em* **strong** [a](https://example.org)",
)


def rich_report() -> Report:
    """Return a report with every kind of content."""
    return Report(
        title="SmoothGuard on the reference model: attacks, utility and cost",
        summary=(
            "The guard lowers the success of *white-box* attacks from 93 % to 8 % at `epsilon = 8/255`, and answers"
            " clean questions as well as the unguarded model: **no difference** that 400 questions could show.",
            "It **loses** where the attack averages over the guard's own noise: success is 31 % there, and a paired"
            " test says that this is no accident (p = 0.0004).",
        ),
        sections=(_attacks(), _utility(), _answers(), _cases()),
        environment={
            "command": "smoothguard eval --benchmark reference --arms all --seed 0",
            "model": {"name": "reference", "revision": "sha256:" + "0f3a" * 16},
            "seeds": [0, 1, 2],
            "versions": {"python": "3.11.9", "torch": "2.9.0", "smoothguard-guardrail": "0.1.0"},
            "config": {"sigma": 0.1, "num_samples": 11, "include_clean": True, "low_pass": None},
        },
    )


def hostile_report() -> Report:
    """Return a report in which every text tries to inject markup."""
    text = " ".join(HOSTILE)
    image = image_uri(Image.new("RGB", (8, 8), "red"))
    return Report(
        title=text,
        summary=HOSTILE,
        sections=(
            Section(
                title=text,
                text=HOSTILE,
                tables=(
                    Table(title=text, columns=(text, text), rows=tuple((each, each) for each in HOSTILE), note=text),
                ),
                curves=(
                    Curve(
                        title=text,
                        x_label=text,
                        y_label=text,
                        series=tuple(Series(name=each, points=(Point(x=1, y=Rate(k=1, n=2)),)) for each in HOSTILE),
                        note=text,
                    ),
                ),
                maps=(
                    ClusterMap(
                        title=text,
                        positions=tuple((float(number), 0.0) for number in range(len(HOSTILE))),
                        texts=HOSTILE,
                        counts=(1,) * len(HOSTILE),
                        labels=tuple(range(len(HOSTILE))),
                        winner=0,
                    ),
                ),
                cases=(
                    Case(
                        title=text,
                        question=text,
                        images=dict.fromkeys(HOSTILE, image),
                        answers=(Answers(arm=text, answer=text, samples=HOSTILE, verdict=text),),
                    ),
                ),
            ),
        ),
        environment={text: text},
    )


def _attacks() -> Section:
    rows = zip(ARMS, (37, 36, 9, 3, 14), (40, 40, 40, 40, 38), (186, 180, 60, 31, 72), (1, 1, 11, 7.3, 11), strict=True)
    return Section(
        title="Attacks",
        text=(
            "Every attack is white-box PGD on the model itself; `epsilon` is in levels of 255. An attack counts as"
            " successful when the answer is the target, word for word.",
        ),
        tables=(
            Table(
                title="Attack success rate by arm, epsilon 8",
                columns=("Arm", "Targeted", "Adaptive, through the noise", "Calls per question", "p against alone"),
                rows=(
                    *(
                        (arm, Rate(k=hits, n=of), Rate(k=adaptive, n=200), calls, 0.00012 * hits if hits < 37 else None)
                        for arm, hits, of, adaptive, calls in rows
                    ),
                    ("a judge that never replied", Rate(k=0, n=0), Rate(k=200, n=200), 1, 1.0),
                ),
                note="Two answers of the last arm could not be judged; `p` is McNemar's, exact, two-sided.",
            ),
            Table(
                title="Examples by category",
                columns=("Category", "Items", "What was asked"),
                rows=tuple((f"{n:02}-Category_{n}", 40 + n, "What is in the picture? " * 3) for n in range(1, 24)),
            ),
        ),
        curves=(
            Curve(
                title="Attack success against strength",
                x_label="epsilon, levels of 255",
                y_label="attack success rate",
                series=tuple(_series(arm, shift) for arm, shift in zip(ARMS[:4], (1.0, 0.95, 0.35, 0.12), strict=True)),
                note="200 items per point.",
            ),
            Curve(
                title="Attack success against steps of the attack",
                x_label="steps",
                y_label="attack success rate",
                log_x=True,
                series=(
                    Series(
                        name="alone",
                        points=tuple(
                            Point(x=x, y=Rate(k=k, n=40)) for x, k in ((0, 0), (10, 12), (40, 29), (160, 38), (640, 40))
                        ),
                    ),
                    Series(
                        name="SmoothGuard, calibrated",
                        points=tuple(
                            Point(x=x, y=Rate(k=k, n=40)) for x, k in ((0, 0), (10, 1), (40, 2), (160, 3), (640, 3))
                        ),
                    ),
                ),
            ),
            Curve(
                title="What a question costs",
                x_label="num_samples",
                y_label="seconds per question",
                series=(
                    Series(name="one CPU core", points=tuple(Point(x=x, y=0.04 + 0.021 * x) for x in range(1, 22))),
                ),
            ),
        ),
    )


def _series(name: str, factor: float) -> Series:
    points = ((0, 0), (1, 20), (2, 61), (4, 133), (8, 186), (16, 198))
    return Series(name=name, points=tuple(Point(x=x, y=Rate(k=int(factor * k), n=200)) for x, k in points))


def _utility() -> Section:
    return Section(
        title="Clean questions",
        text=("The guard is worth nothing if it answers worse where nobody attacks.",),
        tables=(
            Table(
                title="Accuracy on clean questions",
                columns=("Arm", "Accuracy", "F1", "Yes ratio"),
                rows=tuple((arm, Rate(k=392 - 3 * n, n=400), 0.981 - n / 100, 0.5) for n, arm in enumerate(ARMS)),
            ),
        ),
    )


def _answers() -> Section:
    return Section(
        title="How answers cluster",
        maps=(
            ClusterMap(
                title="attack_3: Is there a red circle?",
                positions=((-0.6, 0.02), (-0.5, 0.12), (0.7, -0.1), (0.62, 0.2), (0.05, -0.4)),
                texts=(
                    "Yes, there is a red circle.",
                    "Yes, a red circle.",
                    "No, there is no red circle.",
                    "No.",
                    "It is a blue square with a long description that goes on and on, as models sometimes do.",
                ),
                counts=(7, 1, 2, 1, 1),
                labels=(4, 4, 2, 2, 7),
                winner=4,
            ),
            ClusterMap(
                title="clean_1: unanimous",
                positions=((0.0, 0.0),),
                texts=("It is green.",),
                counts=(11,),
                labels=(0,),
                winner=0,
            ),
            ClusterMap(title="no answer came", positions=(), texts=(), counts=(), labels=(), winner=None),
        ),
    )


def _cases() -> Section:
    attacks = [picture for picture in load_demo().pictures if picture.original]
    cases = []
    for picture in attacks[:2]:
        original, shown = DEMO_DIR / str(picture.original), DEMO_DIR / picture.file
        images = {
            "original": image_uri(original),
            "adversarial, epsilon 8": image_uri(shown),
            "difference, times 4": difference_uri(original, shown),
            **{f"noisy copy {n}": image_uri(shown, enlargement=n) for n in (1, 2, 3)},
        }
        answers = [
            Answers(arm="alone", answer=str(picture.target), verdict="said the target"),
            Answers(
                arm="SmoothGuard, calibrated",
                answer=picture.expected,
                samples=(picture.expected,) * 6 + (str(picture.target), ""),
                verdict="right",
            ),
            Answers(arm="SmoothGuard, paper", answer="", samples=("Sure! " * 80,), verdict="abstained"),
            Answers(arm="long", answer="I see a picture.\n\n- first\n- second\n" + "word" * 90),
        ]
        cases.append(Case(title=picture.name, question=picture.question, images=images, answers=tuple(answers)))
    return Section(
        title="Worst cases",
        text=("The items on which the guard did worst, chosen by agreement, not by hand.",),
        cases=tuple(cases),
    )
