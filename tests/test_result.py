"""Results and errors survive serialisation."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from langchain_core.messages import AIMessage
from pydantic import ValidationError

import smoothguard_guardrail
from smoothguard_guardrail import (
    AbstainedError,
    ConfigurationError,
    GuardRecord,
    GuardResult,
    MediaLimitError,
    Medium,
    MissingDependencyError,
    QuorumError,
    Sample,
    __version__,
)
from smoothguard_guardrail.result import record_schema
from smoothguard_guardrail.testing import ScriptedChatModel
from tests.helpers import guarded, question

SCHEMA_FILE = Path(smoothguard_guardrail.__file__).parent / "record.schema.json"

RESULT = GuardResult(
    answer=AIMessage("A cat.", id="1"),
    verdict="passed",
    action="answered",
    agreement=0.5,
    samples=(Sample(index=0, clean=False, error="ValueError: no"),),
    media=(Medium(path="messages[0].content[0]", kind="image", action="perturbed", size=(4, 5)),),
    seed=7,
    timings={"total": 0.1},
    num_calls=2,
)


def test_results_are_frozen_and_reject_unknown_fields() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RESULT.verdict = "skipped"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="extra"):
        Sample(index=0, clean=False, txt="x")
    with pytest.raises(ValidationError, match="verdict"):
        GuardResult(answer=AIMessage(""), verdict="fine", agreement=1.0, num_calls=1)


def test_results_survive_json_pickle_and_copy() -> None:
    assert GuardResult.model_validate_json(RESULT.model_dump_json()) == RESULT
    assert pickle.loads(pickle.dumps(RESULT)) == RESULT
    assert copy.deepcopy(RESULT) == RESULT


def test_metadata_omits_the_answer_the_seed_and_unknown_values() -> None:
    metadata = RESULT.to_metadata()
    assert json.loads(json.dumps(metadata)) == metadata
    assert metadata == {
        "schema_version": 1,
        "version": __version__,
        "withheld": False,
        "verdict": "passed",
        "action": "answered",
        "agreement": 0.5,
        "clusters": [],
        "samples": [{"index": 0, "clean": False, "error": "ValueError"}],
        "media": [
            {"path": "messages[0].content[0]", "kind": "image", "action": "perturbed", "size": [4, 5], "notes": []}
        ],
        "timings": {"total": 0.1},
        "num_calls": 2,
    }


@pytest.mark.parametrize(
    "error",
    [
        ConfigurationError("sigma: no"),
        MissingDependencyError("matplotlib", "eval"),
        MediaLimitError("too big", path="messages[0].content[1]"),
        QuorumError([ValueError("a"), KeyError("b")], successes=1, required=2),
        AbstainedError(RESULT),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_cross_process_boundaries(error: Exception) -> None:
    for copied in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(copied) is type(error)
        assert str(copied) == str(error) != ""
        assert repr(vars(copied)) == repr(vars(error))


def test_usage_keeps_details_of_the_provider() -> None:
    usage: Any = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3, "input_token_details": {"flex": 1}}
    sample = Sample(index=0, clean=False, usage=usage)
    assert sample.usage == sample.model_dump(mode="json")["usage"] == usage


def test_the_packaged_schema_matches_the_record() -> None:
    assert json.loads(SCHEMA_FILE.read_text()) == record_schema(), "update the file; raise RECORD_VERSION if released"
    Draft202012Validator.check_schema(record_schema())


@pytest.mark.parametrize("fields", [{}, {"include_clean": True}, {"on_abstain": "answer", "min_agreement": 0.9}])
@pytest.mark.parametrize("last", ["A cat.", "A dog.", ValueError("no")])
def test_records_of_messages_follow_the_schema(fields: dict[str, Any], last: Any) -> None:
    guard = guarded(ScriptedChatModel(script=["A cat.", "A cat.", "A cat.", last]), **fields)
    for request in (question(), "Hello"):
        record = guard.invoke(request).response_metadata["smoothguard"]
        Draft202012Validator(json.loads(SCHEMA_FILE.read_text())).validate(record)
        assert GuardRecord.model_validate(record).model_dump(mode="json", exclude_none=True) == record
        assert record.keys() >= {"version", "settings_hash", "policy", "action", "reason"}
