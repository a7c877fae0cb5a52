"""What the README says is what happens: tables, commands, output, links."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from service.audit.catalogue import CHECKS
from service.audit.judging import audit
from service.checkpoint.locating import locate
from service.checkpoint.reading import read_checkpoint
from service.demo import demo_root
from service.domain.judgement import Verdict
from service.settings import Settings
from tests.conftest import free_port
from tests.readme.commands import ROOT, blocks, rerun, stable
from tests.readme.tables import README, updated

TEXT = README.read_text(encoding="utf-8")


def test_the_tables_are_those_of_the_code() -> None:
    assert updated(TEXT) == TEXT, "run `make readme`"


@pytest.mark.timeout(400)
def test_every_example_gives_the_output_that_is_shown() -> None:
    assert stable(rerun(TEXT, free_port())).splitlines() == stable(TEXT).splitlines(), "run `make readme`"


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    for line in blocks(TEXT, "sh")[0].splitlines():
        target = line.split("#")[0].split()
        assert target[0] == "make"
        shown = subprocess.run([*target, "-n"], cwd=ROOT, capture_output=True, text=True)
        assert shown.returncode == 0, shown.stderr


def test_the_waiver_that_is_shown_lets_the_broken_adapter_pass(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (block,) = [one for one in blocks(TEXT, "sh") if "AUDIT_WAIVERS" in one]
    value = subprocess.run(
        ["bash", "-c", block + '\nprintf %s "$MINICPM_AUDIT_WAIVERS"'], capture_output=True, text=True, check=True
    ).stdout
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINICPM_AUDIT_WAIVERS", value)
    waivers = [one.to_waiver() for one in Settings().audit_waivers]
    broken = locate(str(demo_root() / "adapters" / "broken"))
    facts = read_checkpoint(locate(str(demo_root() / "base")), {"broken": broken})
    report = audit(facts, waivers=waivers)
    assert report.overall is Verdict.CONSISTENT
    assert json.loads(value)[0]["reason"] in {one.waiver.reason for one in report.findings() if one.waiver}


def test_the_number_of_checks_is_that_of_the_catalogue() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"Each of the {len(CHECKS)} checks" in TEXT
    assert f"- {len(CHECKS)} checks, each with a page" in changelog


def test_every_file_that_is_named_is_there() -> None:
    for path in re.findall(r"`((?:service|deploy|tests|benchmarks)/[\w./-]*)`", TEXT):
        assert (ROOT / path).exists(), path
