"""Finds sigma and the number of samples for a user's own model and data."""

from smoothguard_guardrail.evaluation.attackers import AttackSettings
from smoothguard_guardrail.evaluation.calibration.answer_store import AnswerStore
from smoothguard_guardrail.evaluation.calibration.bench import Bench, Sweep
from smoothguard_guardrail.evaluation.calibration.choice import Choice, Limits, choose
from smoothguard_guardrail.evaluation.calibration.reporting import calibration_report
from smoothguard_guardrail.evaluation.calibration.results import Measured, Unguarded
from smoothguard_guardrail.evaluation.calibration.rows import Rows, decisive_words, is_right, read_rows, succeeded
from smoothguard_guardrail.evaluation.calibration.run import Calibration, HeldOut, calibrate
from smoothguard_guardrail.evaluation.calibration.suspicion import Alarm, SuspicionThresholds

__all__ = [
    "Alarm",
    "AnswerStore",
    "AttackSettings",
    "Bench",
    "Calibration",
    "Choice",
    "HeldOut",
    "Limits",
    "Measured",
    "Rows",
    "SuspicionThresholds",
    "Sweep",
    "Unguarded",
    "calibrate",
    "calibration_report",
    "choose",
    "decisive_words",
    "is_right",
    "read_rows",
    "succeeded",
]
