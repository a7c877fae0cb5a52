"""What the tests of the deployment share: the root, the system's tools, and which metrics exist.

Knows no file of the deployment by name.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from service.metrics import Metrics

SUFFIXES = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
    "info": ("_info",),
}
"""What prometheus_client appends to the name of a metric in the text that Prometheus reads."""


@pytest.fixture(scope="session")
def root() -> Path:
    return Path(__file__).parents[2]


@pytest.fixture(scope="session")
def promtool() -> Sequence[str]:
    return _first_that_runs(["promtool", "--version"])


@pytest.fixture(scope="session")
def compose() -> Sequence[str]:
    return _first_that_runs(["docker", "compose", "version"], ["docker-compose", "version"])


@pytest.fixture(scope="session")
def uv() -> Sequence[str]:
    beside_python = str(Path(sys.executable).with_name("uv"))
    return _first_that_runs([beside_python, "--version"], ["uv", "--version"])


@pytest.fixture(scope="session")
def metrics() -> Metrics:
    return Metrics(CollectorRegistry(), ["receipts"])


@pytest.fixture(scope="session")
def labels_by_series(metrics: Metrics) -> dict[str, set[str]]:
    """Every series name that Prometheus can read, with its labels."""
    found: dict[str, set[str]] = {}
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            for family in metric.describe():
                for suffix in SUFFIXES[family.type]:
                    own = {"le"} if suffix == "_bucket" else set()
                    found[family.name + suffix] = {*metric._labelnames, *own, "job", "instance"}
    return found


def _first_that_runs(*version_commands: list[str]) -> Sequence[str]:
    """Returns the first command that is installed, without its last word."""
    for command in version_commands:
        try:
            if subprocess.run(command, capture_output=True, timeout=60).returncode == 0:
                return command[:-1]
        except FileNotFoundError:
            continue
    missing = " or ".join(" ".join(command[:-1]) for command in version_commands)
    if os.environ.get("MINICPM_REQUIRE_SYSTEM_TOOLS") == "1":
        pytest.fail(f"{missing} is not installed")
    pytest.skip(f"{missing} is not installed")
