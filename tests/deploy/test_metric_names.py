"""Alerts and dashboard ask only for series, labels and label values that the service exposes.

Does not know what the expressions mean.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.metrics import Metrics

DEPLOY = Path(__file__).parents[2] / "deploy"
CLOSED_LABELS = ("phase", "outcome", "where")
"""Labels whose values are all known before the first request."""


def _alert_expressions() -> Iterator[str]:
    for group in yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


def _dashboard_expressions(node: Any) -> Iterator[str]:
    """Yields every `expr` of panels and annotations, and the query of every variable."""
    if isinstance(node, list):
        for one in node:
            yield from _dashboard_expressions(one)
    elif isinstance(node, dict):
        for name, one in node.items():
            if name in ("expr", "definition"):
                yield one
            else:
                yield from _dashboard_expressions(one)


DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/minicpm.json").read_text())
EXPRESSIONS = [*_alert_expressions(), *_dashboard_expressions(DASHBOARD)]


@pytest.mark.parametrize(
    "file", ["prometheus/alerts.yml", "prometheus/alerts.test.yml", "grafana/dashboards/minicpm.json"]
)
def test_every_series_exists(file: str, labels_by_series: dict[str, set[str]]) -> None:
    named = set(re.findall(r"minicpm_\w+", (DEPLOY / file).read_text()))
    assert named
    assert named <= set(labels_by_series)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_label_belongs_to_its_series(expression: str, labels_by_series: dict[str, set[str]]) -> None:
    for series, selector in re.findall(r"(minicpm_\w+)\{([^}]*)\}", expression):
        assert set(re.findall(r"(\w+)\s*(?:=|!)", selector)) <= labels_by_series[series]
    everywhere = set().union(*(labels_by_series[name] for name in re.findall(r"minicpm_\w+", expression)))
    for grouping in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expression):
        assert set(re.split(r",\s*", grouping)) <= everywhere


@pytest.mark.parametrize("label", CLOSED_LABELS)
def test_every_value_of_a_closed_label_occurs(label: str, metrics: Metrics) -> None:
    samples = [sample for family in metrics.registry.collect() for sample in family.samples]
    known = {sample.labels[label] for sample in samples if label in sample.labels}
    asked = re.findall(rf'\b{label}=~?"([^"]*)"', "\n".join(EXPRESSIONS))
    assert label == "where" or asked
    assert {value for alternatives in asked for value in alternatives.split("|")} <= known
