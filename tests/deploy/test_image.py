"""The image holds the service and its locked dependencies, and nothing for developers.

Does not know the engine that builds it: what the Dockerfile runs is run here in a folder.
"""

import http.server
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

Instructions = list[tuple[str, str]]
DEVELOPER_TOOLS = {"httpx", "hypothesis", "import-linter", "mypy", "pytest", "pytest-timeout", "ruff"}


@pytest.fixture(scope="module")
def dockerfile(root: Path) -> Instructions:
    """The instructions, continued lines joined and comments dropped."""
    lines = (root / "deploy/Dockerfile").read_text().splitlines()
    joined = "\n".join(line for line in lines if not line.startswith("#")).replace("\\\n", "")
    split = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [(name, " ".join(rest.split())) for name, rest in split]


@pytest.fixture(scope="module")
def context(root: Path, dockerfile: Instructions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the builder sees: the files that are copied, if `.dockerignore` lets them through."""
    allowed = {line[1:] for line in (root / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    folder = tmp_path_factory.mktemp("context")
    for source in _copied(dockerfile):
        assert source in allowed
        (folder / source).parent.mkdir(parents=True, exist_ok=True)
        if (root / source).is_dir():
            shutil.copytree(root / source, folder / source, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(root / source, folder / source)
    return folder


@pytest.fixture
def answer(request: pytest.FixtureRequest) -> Iterator[int]:
    """A server on a free port that answers every GET with the status it was asked for."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(request.param if self.path == "/health/live" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_the_process_runs_without_rights_and_gets_the_signals_itself(dockerfile: Instructions) -> None:
    last = dict(dockerfile)
    assert last["USER"] == "10001:10001"
    assert json.loads(last["ENTRYPOINT"]) == ["python", "-m", "service", "serve"]
    assert last["STOPSIGNAL"] == "SIGTERM"
    assert last["EXPOSE"] == "8000"


def test_the_cache_of_the_hub_is_a_volume(dockerfile: Instructions) -> None:
    home = re.search(r"HF_HOME=(\S+)", " ".join(rest for name, rest in dockerfile if name == "ENV"))
    assert home
    assert dict(dockerfile)["VOLUME"] == home[1]


def test_the_builder_sees_only_what_is_copied(dockerfile: Instructions, root: Path) -> None:
    lines = [line for line in (root / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == set(_copied(dockerfile))


@pytest.mark.parametrize(("answer", "status"), [(200, 0), (503, 1)], indirect=["answer"])
def test_the_health_check_follows_the_liveness_probe(dockerfile: Instructions, answer: int, status: int) -> None:
    assert _check_health(dockerfile, answer) == status


def test_the_health_check_fails_when_nobody_listens(dockerfile: Instructions) -> None:
    assert _check_health(dockerfile, port=1) == 1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_installed_environment_holds_the_service_and_no_developer_tool(
    dockerfile: Instructions, context: Path, uv: Sequence[str], tmp_path: Path
) -> None:
    for step in _install_steps(dockerfile):
        done = _install(context, step, tmp_path)
        assert done.returncode == 0, done.stderr
    installed = _installed(tmp_path / "venv")
    assert not DEVELOPER_TOOLS & set(installed)
    lock = (context / "requirements.lock").read_text()
    unlocked = {name for name, version in installed.items() if f"\n{name}=={version} " not in f"\n{lock}"}
    assert unlocked == {"minicpm-service"}
    found = _python(tmp_path / "venv", "import service; print(service.__file__)")
    assert Path(found.strip()).is_relative_to(tmp_path / "venv")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("package", ["fastapi", "idna"], ids=["named by us", "needed by another"])
def test_a_package_with_another_hash_is_not_installed(
    context: Path, uv: Sequence[str], tmp_path: Path, package: str
) -> None:
    copy = shutil.copytree(context, tmp_path / "context")
    lock = copy / "requirements.lock"
    before, block = re.split(rf"(?m)^(?={package}==)", lock.read_text())
    own, after = block.split("# via", maxsplit=1)
    lock.write_text(f"{before}{re.sub('sha256:[0-9a-f]+', f'sha256:{0:064}', own)}# via{after}")
    done = _install(copy, "dependencies /opt/venv", tmp_path)
    assert done.returncode != 0
    assert f"Hash mismatch for `{package}==" in done.stderr


def _copied(dockerfile: Instructions) -> list[str]:
    copies = [rest for name, rest in dockerfile if name == "COPY" and not rest.startswith("--from")]
    return [source for copy in copies for source in copy.split()[:-1]]


def _install_steps(dockerfile: Instructions) -> list[str]:
    steps = [re.search(r"deploy/install\.sh (.+)", rest) for name, rest in dockerfile if name == "RUN"]
    return [step[1] for step in steps if step]


def _install(context: Path, step: str, folder: Path) -> subprocess.CompletedProcess[str]:
    places = {"/opt/venv": folder / "venv", "dist": folder / "dist", "/build/dist": folder / "dist"}
    arguments = [str(places.get(word, word)) for word in shlex.split(step)]
    kept = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**kept, "PATH": path, "UV_PYTHON": sys.executable, "UV_PYTHON_DOWNLOADS": "never"}
    command = ["sh", "deploy/install.sh", *arguments]
    return subprocess.run(command, cwd=context, env=environment, capture_output=True, text=True, timeout=600)


def _installed(venv: Path) -> dict[str, str]:
    """Returns the version of every package, by its name as the lock writes it."""
    code = (
        "import importlib.metadata as m, json, re; "
        "print(json.dumps({re.sub('[-_.]+', '-', d.name).lower(): d.version for d in m.distributions()}))"
    )
    found: dict[str, str] = json.loads(_python(venv, code))
    return found


def _python(venv: Path, code: str) -> str:
    command = [str(venv / "bin/python"), "-I", "-c", code]
    return subprocess.check_output(command, cwd=venv, text=True, timeout=60)


def _check_health(dockerfile: Instructions, port: int) -> int:
    command = json.loads(dict(dockerfile)["HEALTHCHECK"].split(" CMD ")[1])
    assert command[0] == "python"
    nobody = "http://127.0.0.1:1"
    environment = {**os.environ, "MINICPM_PORT": str(port), "http_proxy": nobody, "no_proxy": ""}
    return subprocess.run([sys.executable, *command[1:]], env=environment, timeout=30).returncode
