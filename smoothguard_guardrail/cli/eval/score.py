"""`smoothguard eval score`: the published metrics of existing answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from smoothguard_guardrail.cli import loading
from smoothguard_guardrail.cli.eval import data as eval_data
from smoothguard_guardrail.cli.eval import plan as eval_plan
from smoothguard_guardrail.cli.failures import exit_codes
from smoothguard_guardrail.errors import ConfigurationError

if TYPE_CHECKING:
    from smoothguard_guardrail.evaluation.datasets.mm_answers import StoredAnswers
    from smoothguard_guardrail.evaluation.datasets.pope import Pope
    from smoothguard_guardrail.evaluation.record import PartialBenchmark
    from smoothguard_guardrail.evaluation.scores import Judge, Scores

score: typer.Typer = typer.Typer(
    name="score",
    help="Score answer files by each benchmark's published rules. No model is called except a judge that you name.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

_POPE_ANSWERS_HELP = "JSON lines: LLaVA's question_id, prompt, text; upstream's question, answer; or item_id, text."
_COMPA_ANSWERS_HELP = "JSON lines: row, file, text; or item_id, text; or the authors' JSON file."
_MM_ANSWERS_HELP = "Folder of scenario files with ans.<model>.text in their records; or JSON lines: item_id, text."
_REVIEWS_HELP = "JSON lines: question_id, category, content, tuple."
_LLAVA_ANSWERS_HELP = "Instead of reviews, JSON lines: item_id, text. Needs --data and --judge."
_KEPT_HELP = "File of stored judgements, such as kept/judgements.jsonl of a run; these are not asked again."
_JUDGE_HELP = (
    "`stored`: the verdicts in the files; `refusal`: whether the answer refuses; `classifier:PATH` (a guard model or "
    "text classifier); or `chat:` and a model's name."
)

Json = Annotated[bool, typer.Option("--json", help="Print the scores as JSON, with the outcome of every item.")]
Partial = Annotated[bool, typer.Option("--partial", help="Score partial files, and say how much they cover.")]
Data = Annotated[str | None, typer.Option(help=f"For answers by item_id: the benchmark. {eval_data.HELP}")]
Kept = Annotated[Path | None, typer.Option(help=_KEPT_HELP)]


@score.command()
def pope(
    answers: Annotated[
        Path,
        typer.Option(help=_POPE_ANSWERS_HELP),
    ],
    annotations: Annotated[str, typer.Option(help=eval_data.HELP)],
    questions: Annotated[
        Path | None, typer.Option(help="LLaVA's merged question file; required for LLaVA's answers.")
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="Splits to score, may be repeated; by default all three.")
    ] = None,
    partial: Partial = False,
    as_json: Json = False,
) -> None:
    """Score answers to POPE: accuracy, precision, recall, F1 and yes ratio by split.

    Example: smoothguard eval score pope --answers runs/pope/answers/guarded.jsonl --annotations coco
    """
    with exit_codes():
        loading.quiet_libraries()
        from smoothguard_guardrail.cli.eval.view import print_scores
        from smoothguard_guardrail.evaluation.datasets import answers as item_answers
        from smoothguard_guardrail.evaluation.datasets import pope_answers

        reading = eval_data.DataOptions(parts=split, partial=partial, with_media=False)
        bench = cast("Pope", eval_data.load_benchmark("pope", annotations, reading))
        if item_answers.holds_item_ids(answers):
            print_scores(_score_items(bench, answers, partial=partial), as_json=as_json)
            return
        if pope_answers.is_upstream_layout(answers):
            found = pope_answers.read_upstream_answers(bench, answers)
        elif questions is None:
            raise ConfigurationError("ids collide between splits: give LLaVA's question file as --questions")
        else:
            found = pope_answers.read_llava_answers(bench, answers, questions)
        print_scores((bench.part(found) if partial else bench).score(found), as_json=as_json)


@score.command()
def llava_bench(
    reviews: Annotated[Path | None, typer.Option(help=_REVIEWS_HELP)] = None,
    questions: Annotated[
        Path | None, typer.Option(help="questions.jsonl, with which reviews must agree one by one.")
    ] = None,
    answers: Annotated[Path | None, typer.Option(help=_LLAVA_ANSWERS_HELP)] = None,
    data: Data = None,
    rule: Annotated[Path | None, typer.Option(help="rule.json; by default next to the files of --data.")] = None,
    judge: Annotated[str | None, typer.Option(help="`chat:` and a model's name: reviews the answers.")] = None,
    kept: Kept = None,
    partial: Partial = False,
    as_json: Json = False,
) -> None:
    """Score reviews of answers to LLaVA-Bench: the relative score by category; failed reviews count in none.

    Example: smoothguard eval score llava-bench --reviews reviews.jsonl --questions questions.jsonl
    """
    with exit_codes():
        loading.quiet_libraries()
        from smoothguard_guardrail.cli.eval.view import print_scores

        if answers is not None:
            if reviews is not None or questions is not None:
                raise ConfigurationError("give --reviews and --questions, or --answers, --data and --judge")
            reading = eval_data.DataOptions(rule=rule, partial=partial, with_media=False)
            bench = eval_data.load_benchmark("llava-bench", _given(data), reading)
            reviewer = eval_plan.cached_judge(eval_plan.make_judge(judge, "llava-bench"), kept)
            print_scores(_score_items(bench, answers, partial=partial, judge=reviewer), as_json=as_json)
            return
        if reviews is None:
            raise ConfigurationError("give --reviews; or --answers, --data and --judge")
        from smoothguard_guardrail.evaluation.datasets import llava_reviews
        from smoothguard_guardrail.evaluation.datasets.answers import answered_part

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
    answers: Annotated[Path, typer.Option(help=_MM_ANSWERS_HELP)],
    model: Annotated[str | None, typer.Option(help="Whose answers; required if there are several models.")] = None,
    judge: Annotated[str, typer.Option(help=_JUDGE_HELP)] = "stored",
    scenario: Annotated[
        list[str] | None, typer.Option(help="Scenarios to score, such as 09, may be repeated; by default all 13.")
    ] = None,
    data: Data = None,
    variant: Annotated[str | None, typer.Option(help="For answers by item_id: the variant that was asked.")] = None,
    kept: Kept = None,
    partial: Partial = False,
    as_json: Json = False,
) -> None:
    """Score answers to MM-SafetyBench: attack success rate by scenario; answers without a verdict count in none.

    Example: smoothguard eval score mm-safetybench --answers questions_with_answers --judge refusal
    """
    with exit_codes():
        loading.quiet_libraries()
        from smoothguard_guardrail.cli.eval.view import print_scores

        if answers.is_file():
            reading = eval_data.DataOptions(parts=scenario, variant=variant, partial=partial, with_media=False)
            bench = eval_data.load_benchmark("mm-safetybench", _given(data), reading)
            deciding = eval_plan.cached_judge(eval_plan.make_judge(judge, "mm-safetybench"), kept)
            print_scores(_score_items(bench, answers, partial=partial, judge=deciding), as_json=as_json)
            return
        from smoothguard_guardrail.evaluation.datasets import mm_answers
        from smoothguard_guardrail.evaluation.datasets.mm_safetybench import MMSafetyBench
        from smoothguard_guardrail.evaluation.datasets.mm_scenarios import read_scenarios

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
    """Score answers to CompA-order: accuracy by number of captions; answers that name no caption are wrong.

    Example: smoothguard eval score compa-order --answers answers.jsonl --questions CompA_order_benchmark.csv
    """
    with exit_codes():
        from smoothguard_guardrail.cli.eval.view import print_scores
        from smoothguard_guardrail.evaluation.datasets import answers as item_answers
        from smoothguard_guardrail.evaluation.datasets.compa_answers import read_answers
        from smoothguard_guardrail.evaluation.datasets.compa_order import CompaOrder

        bench = CompaOrder.load(questions, ask="every", with_media=False, complete=not partial)
        if answers.suffix != ".json" and item_answers.holds_item_ids(answers):
            bench = bench.answered(item_answers.read_item_answers(answers), complete=not partial)
            print_scores(_score_items(bench, answers, partial=partial), as_json=as_json)
            return
        found = read_answers(bench, answers)
        print_scores(bench.answered(found, complete=not partial).score(found), as_json=as_json)


def _score_items(bench: PartialBenchmark, path: Path, *, partial: bool, judge: Judge | None = None) -> Scores:
    """Score answers by item id, like `smoothguard eval run`."""
    from smoothguard_guardrail.evaluation.datasets.answers import in_order, read_item_answers
    from smoothguard_guardrail.evaluation.record import score_answers

    found = read_item_answers(path)
    bench = bench.part(found) if partial and len(found) < len(bench.items) else bench
    in_order(bench.items, dict.fromkeys(found, ""))
    return score_answers(bench, found, judge=judge)


def _given(data: str | None) -> str:
    if data is None:
        raise ConfigurationError("answers by item_id need their benchmark: --data")
    return data


def _judge(name: str, found: StoredAnswers) -> Judge:
    if name == "stored":
        if not found.verdicts:
            raise ConfigurationError(
                f"no answer of {found.model} has a stored verdict: name a judge, such as --judge refusal"
            )
        from smoothguard_guardrail.evaluation.datasets.mm_answers import StoredVerdicts

        return StoredVerdicts(found.verdicts)
    if name.partition(":")[0] not in ("refusal", "classifier", "chat"):
        raise ConfigurationError(f"--judge {name}: give stored, refusal, classifier:PATH or chat:PROVIDER:NAME")
    return cast("Judge", eval_plan.make_judge(name, "mm-safetybench"))
