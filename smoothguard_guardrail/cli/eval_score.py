"""`smoothguard eval score`: the published figures of answers that others made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smoothguard_guardrail.cli import loading
from smoothguard_guardrail.cli.failures import exit_codes
from smoothguard_guardrail.errors import ConfigurationError

if TYPE_CHECKING:
    from smoothguard_guardrail.evaluation.benchmarks.mm_answers import StoredAnswers
    from smoothguard_guardrail.evaluation.scores import Judge

score = typer.Typer(
    name="score",
    help="Score answer files as each benchmark publishes it. No model is asked, but for a judge that you name.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print the scores as JSON, with the outcome of every item.")]
Partial = Annotated[
    bool, typer.Option("--partial", help="Score what is there, and say how much, in place of refusing partial files.")
]
_POPE_ANSWERS_HELP = "JSON lines: LLaVA's question_id, prompt, text; upstream's question, answer; or item_id, text."
_COMPA_ANSWERS_HELP = "JSON lines: row, file, text; or item_id, text; or the authors' JSON file."
_JUDGE_HELP = (
    "`stored`: the verdicts in the files; `refusal`: whether the answer refuses; `classifier:PATH` (a guard model or "
    "text classifier); or `chat:` and a model's name."
)


@score.command()
def pope(
    answers: Annotated[
        Path,
        typer.Option(help=_POPE_ANSWERS_HELP),
    ],
    annotations: Annotated[Path, typer.Option(help="Folder of coco_pope_<split>.json.")],
    questions: Annotated[
        Path | None, typer.Option(help="LLaVA's merged question file; to be given with LLaVA's answers.")
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="Splits to score, may be repeated; by default all three.")
    ] = None,
    partial: Partial = False,
    as_json: Json = False,
) -> None:
    """Score answers to POPE: accuracy, precision, recall, F1 and yes ratio by split."""
    with exit_codes():
        from smoothguard_guardrail.cli.scores_view import print_scores
        from smoothguard_guardrail.evaluation.benchmarks import joining, pope_answers
        from smoothguard_guardrail.evaluation.benchmarks.pope import SPLITS, Pope

        bench = Pope.load(annotations, splits=split or SPLITS, with_media=False, complete=not partial)
        if joining.holds_item_ids(answers):
            found = joining.read_item_answers(answers)
        elif pope_answers.is_upstream_layout(answers):
            found = pope_answers.read_upstream_answers(bench, answers)
        elif questions is None:
            raise ConfigurationError("ids collide between splits: give LLaVA's question file as --questions")
        else:
            found = pope_answers.read_llava_answers(bench, answers, questions)
        print_scores((bench.part(found) if partial else bench).score(found), as_json=as_json)


@score.command()
def llava_bench(
    reviews: Annotated[Path, typer.Option(help="JSON lines: question_id, category, content, tuple.")],
    questions: Annotated[
        Path | None, typer.Option(help="questions.jsonl, with which reviews have to agree one by one.")
    ] = None,
    partial: Partial = False,
    as_json: Json = False,
) -> None:
    """Score reviews of answers to LLaVA-Bench: the relative score by category; failed reviews count in none."""
    with exit_codes():
        from smoothguard_guardrail.cli.scores_view import print_scores
        from smoothguard_guardrail.evaluation.benchmarks import llava_reviews
        from smoothguard_guardrail.evaluation.benchmarks.joining import answered_part

        found = llava_reviews.read_reviews(reviews)
        items, notes = None, []
        if not partial:
            llava_reviews.check_sizes(str(reviews), [review.category for review in found])
        if questions is not None:
            items = llava_reviews.read_question_items(questions, complete=not partial)
            if partial:
                notes = [f"{len(found)} of {len(items)} questions"]
                items = list(answered_part(items, [review.item_id for review in found]))
        print_scores(llava_reviews.score_reviews(found, items=items, notes=notes), as_json=as_json)


@score.command("mm-safetybench")
def mm_safetybench(
    answers: Annotated[Path, typer.Option(help="Folder of scenario files with ans.<model>.text in their records.")],
    model: Annotated[
        str | None, typer.Option(help="Whose answers; to be given where there are several models'.")
    ] = None,
    judge: Annotated[str, typer.Option(help=_JUDGE_HELP)] = "stored",
    scenario: Annotated[
        list[str] | None, typer.Option(help="Scenarios to score, as 09, may be repeated; by default all 13.")
    ] = None,
    partial: Partial = False,
    as_json: Json = False,
) -> None:
    """Score answers to MM-SafetyBench: attack success rate by scenario; answers without a verdict count in none."""
    with exit_codes():
        from smoothguard_guardrail.cli.scores_view import print_scores
        from smoothguard_guardrail.evaluation.benchmarks import mm_answers
        from smoothguard_guardrail.evaluation.benchmarks.mm_safetybench import MMSafetyBench
        from smoothguard_guardrail.evaluation.benchmarks.mm_scenarios import read_scenarios

        found = mm_answers.read_answers(answers, model=model, scenarios=scenario, complete=not partial)
        records = read_scenarios(answers, scenarios=scenario, complete=not partial)
        bench = MMSafetyBench.from_records(records, variant="text-only", with_media=False, complete=not partial)
        bench = bench.part(found.texts) if partial else bench
        scores = bench.score(found.texts, judge=_judge(judge, found))
        notes = (
            f"answers of {found.model}, judge {judge}",
            *(note for note in scores.notes if not note.startswith("variant ")),
        )
        print_scores(scores.model_copy(update={"notes": notes}), as_json=as_json)


@score.command()
def compa_order(
    answers: Annotated[Path, typer.Option(help=_COMPA_ANSWERS_HELP)],
    questions: Annotated[Path, typer.Option(help="CompA_order_benchmark.csv.")],
    partial: Partial = False,
    as_json: Json = False,
) -> None:
    """Score answers to CompA-order: accuracy by number of captions; answers that name no caption are wrong."""
    with exit_codes():
        from smoothguard_guardrail.cli.scores_view import print_scores
        from smoothguard_guardrail.evaluation.benchmarks.compa_answers import read_answers
        from smoothguard_guardrail.evaluation.benchmarks.compa_order import CompaOrder

        bench = CompaOrder.load(questions, ask="every", with_media=False, complete=not partial)
        found = read_answers(bench, answers)
        print_scores(bench.answered(found, complete=not partial).score(found), as_json=as_json)


def _judge(name: str, found: StoredAnswers) -> Judge:
    if name == "stored":
        if not found.verdicts:
            raise ConfigurationError(
                f"no answer of {found.model} has a stored verdict: name a judge, as --judge refusal"
            )
        from smoothguard_guardrail.evaluation.benchmarks.mm_answers import StoredVerdicts

        return StoredVerdicts(found.verdicts)
    from smoothguard_guardrail.evaluation.classifier_judge import ClassifierJudge
    from smoothguard_guardrail.evaluation.judges import ChatJudge, RefusalJudge

    kind, _, rest = name.partition(":")
    loading.quiet_libraries()
    if name == "refusal":
        return RefusalJudge()
    if kind == "classifier" and rest:
        return ClassifierJudge(rest)
    if kind == "chat" and rest:
        return ChatJudge(loading.load_model(rest))
    raise ConfigurationError(f"--judge {name}: give stored, refusal, classifier:PATH or chat:PROVIDER:NAME")
