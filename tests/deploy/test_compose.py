"""The compose file starts both variants of the service, its metrics and its dashboard.

Does not know what is inside the images; no engine is asked.
"""

import os
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import PREFIX, Settings

VARIANTS = ("service", "service-gpu")


@pytest.fixture(scope="module")
def services(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((root / "docker-compose.yml").read_text())["services"]
    return found


@pytest.fixture
def configure(root: Path, compose: Sequence[str], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Asks compose what it would start, whatever this machine's shell and `.env` say."""

    def ask(*options: str, **settings: str) -> dict[str, Any]:
        (tmp_path / ".env").touch()
        outside = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)} | settings
        env_file = ["--env-file", str(tmp_path / ".env")]
        command = [*compose, *env_file, "-f", "docker-compose.yml", *options, "config"]
        done = subprocess.run(command, cwd=root, env=outside, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = yaml.safe_load(done.stdout)["services"]
        return found

    return ask


@pytest.mark.parametrize("profile", [[], ["--profile", "gpu"]], ids=["cpu", "gpu"])
def test_compose_accepts_the_file(configure: Callable[..., dict[str, Any]], profile: list[str]) -> None:
    assert {"service", "prometheus", "grafana"} <= set(configure(*profile))


def test_a_setting_in_the_shell_reaches_the_service(configure: Callable[..., dict[str, Any]]) -> None:
    waivers = '[{"check": "rows_cover_ids", "subject": "base", "reason": "it is $5 cheaper"}]'
    environment = configure(MINICPM_AUDIT_WAIVERS=waivers)["service"]["environment"]
    assert environment["MINICPM_AUDIT_WAIVERS"].replace("$$", "$") == waivers


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_setting_is_passed_on_and_nothing_else(services: dict[str, Any], variant: str) -> None:
    assert set(services[variant]["environment"]) == {PREFIX + name.upper() for name in Settings.model_fields}


def test_a_setting_that_is_not_set_keeps_its_default(services: dict[str, Any]) -> None:
    given = {name: value for name, value in services["service"]["environment"].items() if value is not None}
    assert given == {"MINICPM_HOST": "0.0.0.0", "MINICPM_PORT": "8000"}


def test_every_port_is_bound_to_this_machine_unless_somebody_asks(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service["ports"]]
    assert all(re.match(r"127\.0\.0\.1:|\$\{MINICPM_HOST:-127\.0\.0\.1\}:", port) for port in ports), ports


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_service_writes_only_to_tmp_and_to_the_cache_of_the_hub(services: dict[str, Any], variant: str) -> None:
    service = services[variant]
    assert service["read_only"] is True
    assert [mount.split(":")[0] for mount in service["tmpfs"]] == ["/tmp"]
    writable = [volume for volume in service["volumes"] if not volume.endswith(":ro")]
    assert writable == ["huggingface:/var/cache/huggingface"]
    assert "${MODEL_DIR:-./models}:/models:ro" in service["volumes"]


def test_nobody_may_gain_rights(services: dict[str, Any]) -> None:
    assert all(service["cap_drop"] == ["ALL"] for service in services.values())
    assert all(service["security_opt"] == ["no-new-privileges:true"] for service in services.values())


@pytest.mark.parametrize("variant", VARIANTS)
def test_stopping_waits_longer_than_the_drain(services: dict[str, Any], variant: str) -> None:
    grace = re.fullmatch(r"\$\{STOP_GRACE_PERIOD:-(\d+)s\}", services[variant]["stop_grace_period"])
    assert grace
    assert int(grace[1]) > Settings.model_fields["drain_seconds"].default


def test_only_the_gpu_variant_takes_a_gpu_and_only_when_asked(services: dict[str, Any]) -> None:
    assert "deploy" not in services["service"]
    assert "profiles" not in services["service"]
    gpu = services["service-gpu"]
    assert gpu["profiles"] == ["gpu"]
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}


def test_every_mounted_file_is_there(services: dict[str, Any], root: Path) -> None:
    mounts = [volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])]
    assert all((root / mount).exists() for mount in mounts if mount.startswith("./"))


def test_prometheus_scrapes_a_name_that_both_variants_answer_to(services: dict[str, Any], root: Path) -> None:
    config = yaml.safe_load((root / "deploy/prometheus/prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["service:8000"]}]
    assert "service" in services
    assert services["service-gpu"]["networks"]["default"]["aliases"] == ["service"]


def test_grafana_reads_the_prometheus_beside_it(services: dict[str, Any], root: Path) -> None:
    folder = root / "deploy/grafana/provisioning"
    (source,) = yaml.safe_load((folder / "datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in services
    (provider,) = yaml.safe_load((folder / "dashboards/minicpm.yml").read_text())["providers"]
    targets = [volume.split(":")[1] for volume in services["grafana"]["volumes"]]
    assert provider["options"]["path"] in targets
