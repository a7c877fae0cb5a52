"""The command line: quick help, clear mistakes, the audit's exit statuses, the demo."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from service.cli import main
from service.demo import demo_root

BASE = str(demo_root() / "base")
ADAPTERS = demo_root() / "adapters"


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "service", *arguments], capture_output=True, text=True, cwd=cwd)


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, service.cli as c\ntry: c.main(['--help'])\nexcept SystemExit: print(sorted(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "serve" in shown
    for heavy in ("torch", "transformers", "fastapi", "pydantic", "numpy", "PIL"):
        assert f"'{heavy}'" not in shown


def test_no_verb_shows_the_help_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "audit" in capsys.readouterr().out


def test_an_audit_s_exit_status_is_its_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", BASE, "--adapter", f"json={ADAPTERS / 'json'}"]) == 0
    assert "CONSISTENT" in capsys.readouterr().out
    assert main(["audit", BASE, "--adapter", f"broken={ADAPTERS / 'broken'}", "--format", "json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["verdict"] == "inconsistent"
    assert report["subjects"]["base"]["verdict"] == "consistent"
    (fatal,) = [one for one in report["subjects"]["adapter:broken"]["findings"] if one["severity"] == "fatal"]
    assert fatal["check"] == "trained_rows"
    assert "<fig>" in fatal["message"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["audit", "/no/such/folder"], "neither a folder nor a hub id"),
        (["audit", "openbmb/MiniCPM-V-4_6"], "full 40-digit commit"),
        (["audit", BASE, "--adapter", "nonsense"], "NAME=DIR"),
    ],
)
def test_what_cannot_run_exits_with_2_and_says_why(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_the_demo_is_written_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "demo"
    assert main(["demo", "--output", str(output)]) == 0
    for folder in ("base", "merged", *(f"adapters/{name}" for name in ("json", "tokens", "official", "broken"))):
        assert any((output / folder).glob("*.safetensors"))
    assert main(["demo", "--output", str(output)]) == 2
    assert "not an empty folder" in capsys.readouterr().err


def test_the_console_script_is_the_same_command() -> None:
    script = Path(sys.executable).with_name("minicpm-service")
    assert subprocess.run([script, "--help"], capture_output=True, text=True).stdout == run("--help").stdout


def test_settings_that_cannot_be_used_are_named_and_exit_with_2(tmp_path: Path) -> None:
    result = run("serve", "--port", "99999", "--device", "tpu", cwd=tmp_path)
    assert result.returncode == 2
    assert "MINICPM_PORT" in result.stderr
    assert "MINICPM_DEVICE" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_setting_that_is_not_json_is_named(tmp_path: Path) -> None:
    result = run("serve", "--adapters", '{"x" /models/x}', cwd=tmp_path)
    assert result.returncode == 2
    assert "MINICPM_ADAPTERS is not JSON: Expecting ':' delimiter: line 1 column 6" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unknown_flag_is_refused(tmp_path: Path) -> None:
    result = run("serve", "--prot", "1", cwd=tmp_path)
    assert result.returncode == 2
    assert "--prot" in result.stderr
