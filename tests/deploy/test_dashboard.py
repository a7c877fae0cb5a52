"""The dashboard is valid and answers the operator's three questions in its first row.

Does not know how Grafana draws.
"""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture(scope="module")
def panels(root: Path) -> list[dict[str, Any]]:
    dashboard = json.loads((root / "deploy/grafana/dashboards/minicpm.json").read_text())
    found: list[dict[str, Any]] = dashboard["panels"]
    return found


def test_the_first_row_says_whether_it_is_healthy_and_whether_a_broken_token_is_in_the_traffic(
    panels: list[dict[str, Any]],
) -> None:
    first = [panel for panel in panels if panel["gridPos"]["y"] == 0]
    assert [panel["type"] for panel in first] == ["stat"] * 3
    asked = [panel["targets"][0]["expr"] for panel in first]
    names = ("minicpm_phase", "minicpm_audit_verdict", "minicpm_undertrained_token_occurrences_total")
    assert all(name in expression for name, expression in zip(names, asked, strict=True))


def test_the_second_row_says_whether_it_is_fast(panels: list[dict[str, Any]]) -> None:
    below = min(p["gridPos"]["y"] for p in panels if p["type"] == "timeseries")
    asked = [t["expr"] for p in panels if p["gridPos"]["y"] == below for t in p["targets"]]
    for name in ("time_to_first_token", "inter_token_latency", "request_duration"):
        quantiles = [expression for expression in asked if f"minicpm_{name}_seconds_bucket" in expression]
        assert ["0.5," in quantiles[0], "0.99," in quantiles[1]] == [True, True]


def test_no_panel_covers_another(panels: list[dict[str, Any]]) -> None:
    cells = [
        (x, y)
        for grid in (panel["gridPos"] for panel in panels)
        for x in range(grid["x"], grid["x"] + grid["w"])
        for y in range(grid["y"], grid["y"] + grid["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_every_panel_says_what_it_shows(panels: list[dict[str, Any]]) -> None:
    assert all(panel["title"] and panel["description"] for panel in panels if panel["type"] != "row")


def test_promtool_can_read_every_expression(
    panels: list[dict[str, Any]], promtool: Sequence[str], tmp_path: Path
) -> None:
    asked = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    plain = [one.replace("$__rate_interval", "5m").replace("$__range", "1h") for one in asked]
    rules = [{"record": f"panel:{number}", "expr": one} for number, one in enumerate(plain)]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run([*promtool, "check", "rules", file], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
