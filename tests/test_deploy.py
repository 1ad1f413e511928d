"""What `deploy/` asks Prometheus for exists, and what its files name exists. Real tools: `make deploy-check`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from deploy.check_live import alert_queries, dashboard_queries
from smoothguard_guardrail.observability.prometheus import Metrics, PrometheusHandler
from smoothguard_guardrail.observability.safety_log.lines import LINE
from smoothguard_guardrail.testing import ScriptedChatModel
from tests.helpers import guarded, question

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
OF_PROMETHEUS = {"up"}
SELECTOR = re.compile(r"\b([a-z_:]+)\{([^}]*)\}")


@pytest.fixture(scope="module")
def series() -> dict[str, list[dict[str, str]]]:
    """The labels of every series that a server exports after one call of each kind, by name."""
    metrics = Metrics()
    handler = PrometheusHandler(metrics)
    config: Any = {"callbacks": [handler]}
    guard = guarded(ScriptedChatModel(script=["A cat."]), include_clean=True)
    guard.invoke(question(), config)
    failure = {"event": "failure", "error": "QuorumError", "failures": ["TimeoutError"], "version": "1"}
    ids = {"schema_version": 1, "id": "a", "run_id": "0" * 32, "time": "2026-11-23T10:00:00Z"}
    handler.observe(LINE.validate_python(failure | ids))
    metrics.requests.labels("/v1/chat/completions", "200").inc()
    metrics.seconds.labels("/v1/chat/completions").observe(1)
    found: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


@pytest.mark.parametrize("query", [*dashboard_queries(), *alert_queries()], ids=lambda query: query[0])
def test_every_query_uses_series_and_labels_that_the_server_exports(
    query: tuple[str, str], series: dict[str, list[dict[str, str]]]
) -> None:
    selectors = SELECTOR.findall(query[1])
    assert selectors
    for name, matchers in selectors:
        if name in OF_PROMETHEUS:
            continue
        assert name in series
        wanted = dict(re.findall(r"(\w+)=~?\"([^\"]*)\"", matchers))
        own = {label: value for label, value in wanted.items() if label not in ("job", "instance")}
        assert any(own.keys() <= labels.keys() for labels in series[name])
        if own.keys() & {"verdict", "stage"}:
            assert any(all(re.fullmatch(own[each], labels[each]) for each in own) for labels in series[name])
    for labels in re.findall(r"\bby \(([^)]*)\)", query[1]):
        names = {each for name, _ in selectors for exported in series.get(name, ()) for each in exported}
        assert {each.strip() for each in labels.split(",")} <= names | {"instance", "job"}


def test_panels_have_ids_places_and_queries() -> None:
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        taken |= cells
        assert panel["type"] == "row" or panel["targets"]
    assert max(x for x, _ in taken) < 24


def test_every_alert_says_what_it_means() -> None:
    (group,) = yaml.safe_load((DEPLOY / "alerts.yaml").read_text())["groups"]
    documented = (ROOT / "docs" / "monitoring.md").read_text()
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"].keys() == {"summary", "description"}
        assert f"`{rule['alert']}`" in documented


def test_compose_names_files_and_services_that_exist() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = compose["services"]
    for service in services.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert (DEPLOY / source).is_file() if source.startswith(".") else source in compose["volumes"]
        assert set(service.get("secrets", ())) <= compose["secrets"].keys()
        assert set(service.get("depends_on", ())) <= services.keys()
        if "build" in service:
            assert (DEPLOY / service["build"] / "Dockerfile").is_file()
        else:
            assert re.fullmatch(r"[\w/]+:v?\d[\d.]+", service["image"])
    prometheus = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())
    (job,) = prometheus["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    assert (job["job_name"], target.split(":")[0] in services) == ("smoothguard", True)
    assert job["authorization"]["credentials_file"].removeprefix("/run/secrets/") in compose["secrets"]
    assert all((DEPLOY / name).is_file() for name in prometheus["rule_files"])
    source = yaml.safe_load((DEPLOY / "grafana" / "datasource.yaml").read_text())["datasources"][0]
    assert source["url"].removeprefix("http://").split(":")[0] in services
