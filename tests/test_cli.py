"""The command line: quick help, clear mistakes, the audit's exit statuses, the demo."""

import json
import os
import socket
import subprocess
import sys
from importlib.metadata import version
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
        (["audit", "bad/nonexistent"], "bad/nonexistent is no folder here, and as a hub id names no revision"),
        (["audit", str(demo_root() / "minicpmv4_5")], "did you mean minicpmv4_5/base?"),
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


def test_the_help_of_serve_shows_defaults_as_they_are_written(tmp_path: Path) -> None:
    shown = " ".join(run("serve", "--help", cwd=tmp_path).stdout.split())
    assert "strict, default or permissive. [default]" in shown
    assert "Port to listen on. [8000]" in shown
    for python in ("<Policy", "None", "[()]", "[{}]", "['"):
        assert python not in shown


def test_settings_that_cannot_be_used_are_named_and_exit_with_2(tmp_path: Path) -> None:
    waivers = '[{"check": "a", "subjct": "base"}]'
    result = run(
        "serve",
        "--port",
        "abc",
        "--device",
        "tpu",
        "--audit-policy",
        "lax",
        "--audit-waivers",
        waivers,
        "--adapters",
        '{"a b": "x"}',
        "--max-pictures",
        "300",
        cwd=tmp_path,
    )
    assert result.returncode == 2
    assert 'MINICPM_PORT: "abc" does not fit; a whole number from 0 to 65535 is needed' in result.stderr
    assert 'MINICPM_DEVICE: "tpu" does not fit; needed is: auto, cpu, cuda or cuda:N.' in result.stderr
    assert 'MINICPM_AUDIT_POLICY: "lax" does not fit; "strict", "default" or "permissive" is needed' in result.stderr
    assert 'MINICPM_ADAPTERS.a b: "a b" does not fit; needed is: a string that matches' in result.stderr
    assert 'MINICPM_MAX_PICTURES: "300" does not fit; a whole number from 0 to 256 is needed' in result.stderr
    assert "MINICPM_AUDIT_WAIVERS.0.subjct: there is no such field; did you mean subject? The" in result.stderr
    assert "Value error" not in result.stderr
    assert "Traceback" not in result.stderr


def test_a_setting_that_is_not_json_is_named(tmp_path: Path) -> None:
    result = run("serve", "--adapters", '{"x" /models/x}', cwd=tmp_path)
    assert result.returncode == 2
    assert "MINICPM_ADAPTERS is not JSON: Expecting ':' delimiter: line 1 column 6" in result.stderr
    assert 'write it like {"NAME": "FOLDER"}' in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unknown_flag_is_refused(tmp_path: Path) -> None:
    result = run("serve", "--prot", "1", cwd=tmp_path)
    assert result.returncode == 2
    assert "--prot" in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is always full")
def test_an_output_that_cannot_be_written_is_no_verdict_and_no_defect() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "service", "audit", BASE]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 2
    assert result.stderr == "standard output cannot be written: No space left on device\n"


def test_a_reader_that_leaves_early_hears_no_complaint() -> None:
    command = [sys.executable, "-u", "-m", "service", "audit", BASE, "--format", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 2


def test_a_closed_output_changes_no_verdict() -> None:
    command = f"{sys.executable} -m service audit {BASE} >&-"
    assert subprocess.run(command, shell=True, stderr=subprocess.PIPE).returncode == 0


def test_a_narrow_encoding_spells_characters_out() -> None:
    command = [sys.executable, "-m", "service", "audit", BASE, "--adapter", f"broken={ADAPTERS / 'broken'}"]
    result = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert result.returncode == 1
    assert rb"\u2717 fatal trained_rows" in result.stdout


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"minicpm-service {version('minicpm-service')}\n"


def test_an_interrupted_command_says_so_in_one_line() -> None:
    code = (
        "import signal, service.__main__ as m\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
        "m.main = lambda: signal.raise_signal(signal.SIGINT)\nm.run()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (130, "interrupted: nothing was written\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([str(ADAPTERS / "json"), BASE], "json is an adapter and base a model: exchange them"),
        ([str(ADAPTERS / "json"), str(ADAPTERS / "tokens")], "json is an adapter, not a model"),
        ([BASE, BASE], "base is a model, not an adapter"),
    ],
)
def test_merging_what_does_not_go_together_is_refused_before_anything_is_read(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["merge", *arguments, "--output", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_port_that_is_taken_is_named_with_the_way_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("serve", "--host", "127.0.0.1", "--port", str(port), cwd=tmp_path)
    assert result.returncode == 2
    assert f"port {port} on 127.0.0.1 cannot be opened (Address already in use): end what has it" in result.stderr
    assert "MINICPM_PORT" in result.stderr
