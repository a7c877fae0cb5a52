"""Prometheus accepts its files, and the alerts fire when they should.

Does not know which metrics exist: `test_metric_names.py` does.
"""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "deploy" / "prometheus"
ALERTS = [rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]]


def test_promtool_accepts_the_configuration_and_the_rules(promtool: Sequence[str]) -> None:
    done = _run(promtool, "check", "config", "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout + done.stderr


def test_the_rule_tests_pass(promtool: Sequence[str]) -> None:
    done = _run(promtool, "test", "rules", "alerts.test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", [alert["alert"] for alert in ALERTS])
def test_the_rule_tests_notice_an_alert_that_never_fires(promtool: Sequence[str], tmp_path: Path, name: str) -> None:
    shutil.copy(FOLDER / "alerts.test.yml", tmp_path)
    silenced = [{**alert, "expr": "vector(0) > 1"} if alert["alert"] == name else alert for alert in ALERTS]
    groups = {"groups": [{"name": "all", "rules": silenced}]}
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(groups))
    assert _run(promtool, "test", "rules", "alerts.test.yml", folder=tmp_path).returncode != 0


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_every_alert_says_how_bad_it_is_what_it_means_and_what_to_do(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert set(alert["annotations"]) == {"summary", "description", "action"}
    assert all(text.strip() for text in alert["annotations"].values())


def _run(promtool: Sequence[str], *arguments: str, folder: Path = FOLDER) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*promtool, *arguments], cwd=folder, capture_output=True, text=True, timeout=60)
