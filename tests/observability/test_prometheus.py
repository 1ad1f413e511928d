"""Prometheus metrics of guarded calls."""

from __future__ import annotations

import importlib
import sys

import pytest

from smoothguard_guardrail.errors import MissingDependencyError
from smoothguard_guardrail.observability.prometheus import Metrics, PrometheusHandler
from smoothguard_guardrail.testing import ScriptedChatModel
from tests.helpers import guarded, question


def test_guarded_calls_are_counted_by_verdict() -> None:
    metrics = Metrics()
    guard = guarded(ScriptedChatModel(script=["A cat."]))
    guard.invoke(question(), {"callbacks": [PrometheusHandler(metrics)]})
    guard.invoke("Hi!", {"callbacks": [PrometheusHandler(metrics)]})
    text = metrics.render().decode()
    assert 'smoothguard_verdicts_total{verdict="passed"} 1.0' in text
    assert 'smoothguard_verdicts_total{verdict="skipped"} 1.0' in text
    assert "smoothguard_agreement_count 1.0" in text


def test_without_prometheus_client_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "smoothguard_guardrail.observability.prometheus"
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingDependencyError, match=r"smoothguard-guardrail\[serve\]"):
        importlib.import_module(name)
