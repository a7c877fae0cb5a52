"""Runs the README's examples and writes their output under them: `make readme`. A test holds that they agree.

A `console` block holds `$ command` lines with their output; a `python` block is followed by a `text` block of output;
the `sh` block that ends in `serve` starts the server that they all talk to.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.readme.tables import README, updated

ROOT = README.parent
BLOCK = re.compile(r"```(console|sh|python|text)\n(.*?)```", re.DOTALL)
PORT = "8000"
VOLATILE = (
    (re.compile(r'("(?:id|request_id)": ?)"[^"]*"'), r'\1"..."'),
    (re.compile(r'("\w+_seconds": ?)[0-9.e-]+'), r"\g<1>0"),
    (re.compile(r"\b[0-9a-f]{16}\b"), "0" * 16),
    (re.compile(r'("(?:base_row_)?norm_percentile": ?)[0-9.]+'), r"\g<1>0"),
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:]+\+00:00"), "2026-11-24T12:00:00+00:00"),
    (re.compile(r"(within|of|by) [0-9.]+(?:e-\d+)?( |;|$)"), r"\1 0\2"),
)
"""What differs from run to run, and how it is compared."""


def stable(text: str) -> str:
    """Replace what differs from run to run."""
    for pattern, replacement in VOLATILE:
        text = pattern.sub(replacement, text)
    return text


def blocks(text: str, language: str) -> list[str]:
    """Return the contents of the README's blocks of one language."""
    return [match[2] for match in BLOCK.finditer(text) if match[1] == language]


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder that looks like a clone with its environment, where the examples may write."""
    with tempfile.TemporaryDirectory(prefix="readme-") as temporary:
        folder = Path(temporary)
        (folder / ".venv").symlink_to(Path(sys.prefix))
        (folder / "service").symlink_to(ROOT / "service")
        yield folder


@contextmanager
def server(folder: Path, script: str, port: int) -> Iterator[None]:
    """Run the README's own serving commands until the end of the block."""
    environment = {**os.environ, "MINICPM_PORT": str(port)}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            ["bash", "-c", script.replace(".venv/bin/minicpm-service serve", "exec .venv/bin/minicpm-service serve")],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        _wait_ready(process, port)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def run_command(command: str, folder: Path, port: int) -> str:
    """Run one command line as a reader would, against the server on another port."""
    line = command.replace(f"localhost:{PORT}", f"localhost:{port}")
    done = subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, text=True, timeout=120)
    return (done.stdout + done.stderr).rstrip("\n")


def run_console(block: str, folder: Path, port: int) -> str:
    """Run the commands of a console block, and return it with their output."""
    lines = []
    for command in _commands(block):
        lines.append("$ " + command)
        if output := run_command(command, folder, port):
            lines.append(output)
    return "\n".join(lines) + "\n"


def run_python(block: str, folder: Path, port: int) -> str:
    """Run a Python example and return what it prints."""
    code = block.replace(f"localhost:{PORT}", f"localhost:{port}")
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120)
    return done.stdout + done.stderr


def rerun(text: str, port: int) -> str:
    """Return the README with the output of every example as it is now."""
    serving = next(block for block in blocks(text, "sh") if block.rstrip().endswith("serve"))
    with workplace() as folder:
        setup = next(block for block in blocks(text, "console") if " demo --output" in block)
        subprocess.run(["bash", "-c", next(_commands(setup))], cwd=folder, check=True, capture_output=True)
        (folder / "models").rename(folder / "served")
        with server(folder, serving.replace("models/demo", "served/demo"), port):
            python_output = [run_python(block, folder, port) for block in blocks(text, "python")]

            def renew(match: re.Match[str]) -> str:
                if match[1] == "console":
                    return f"```console\n{run_console(match[2], folder, port)}```"
                if match[1] == "text":
                    return f"```text\n{python_output.pop(0)}```"
                return match[0]

            return BLOCK.sub(renew, text)


def _commands(block: str) -> Iterator[str]:
    """Yield the commands of a console block, continuation lines included."""
    command = ""
    for line in block.splitlines():
        if line.startswith("$ "):
            command = line[2:]
        elif command:
            command += "\n" + line
        if command and not command.endswith("\\"):
            yield command
            command = ""


def _wait_ready(process: subprocess.Popen[bytes], port: int) -> None:
    ends_at = time.monotonic() + 120
    while time.monotonic() < ends_at and process.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise RuntimeError(f"the README's server did not get ready (exit status {process.poll()})")


if __name__ == "__main__":
    README.write_text(rerun(updated(README.read_text(encoding="utf-8")), 8765), encoding="utf-8")
    print(json.dumps({"renewed": str(README.name)}))
