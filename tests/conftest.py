"""Real servers, each a process of its own, shared by all tests that can share it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.demo import demo_root

ROOT = Path(__file__).parents[1]
START_SECONDS = 90.0
STOP_SECONDS = 30.0
TAIL_LINES = 40
KEY = "a key with ümlaut"
BEARER = {"authorization": b"Bearer " + KEY.encode()}
ADAPTERS = {name: str(demo_root() / "adapters" / name) for name in ("json", "tokens", "official", "broken")}


class Server:
    """`python -m service serve` as a process; knows how to wait for it and how to end it."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.port = free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "server.log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MINICPM_")}
        environment |= {"PYTHONPATH": str(ROOT), "MINICPM_PORT": str(self.port)}
        environment["OMP_NUM_THREADS"] = "1"  # threads of several servers on few cores only wait for each other
        environment |= {f"MINICPM_{name.upper()}": _as_text(value) for name, value in settings.items()}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service", "serve"], cwd=folder, env=environment, stdout=log, stderr=log
            )
        self.client = self.connect()
        self.early: dict[str, httpx.Response] = {}
        self.phases: list[tuple[int, str]] = []

    def connect(self, **options: Any) -> httpx.Client:
        """Return a client of its own connections."""
        return httpx.Client(base_url=self.base_url, timeout=60, **options)

    def tail(self) -> str:
        """Return the end of the log."""
        return "\n".join(line[:500] for line in self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:])

    def wait_until(self, condition: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
        """Wait for something that can be asked; fail with the log if it does not come, or if the server dies."""
        ends_at = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None:
                pytest.fail(f"the server ended with {self.process.returncode} before: {what}\n{self.tail()}")
            if time.monotonic() > ends_at:
                pytest.fail(f"not within {seconds} s: {what}\n{self.tail()}")
            time.sleep(0.02)

    def status_of(self, path: str) -> int | None:
        """Return the status of a GET; None while the port is closed."""
        try:
            return self.client.get(path).status_code
        except httpx.TransportError:
            return None

    def wait_open(self) -> "Server":
        """Wait for the port, and keep what it answers at once."""
        self.wait_until(lambda: self.status_of("/livez") is not None, "the port opens")
        paths = ("/livez", "/readyz", "/health", "/health/startup", "/health/tokenizer", "/metrics")
        self.early = {path: self.client.get(path) for path in paths}
        self.early["/generate"] = self.client.post("/generate", json={"prompt": "Hi"}, headers=BEARER)
        return self

    def wait_ready(self) -> "Server":
        """Wait until jobs are admitted, and keep every phase on the way with the status of its probe."""

        def is_ready() -> bool:
            response = self.client.get("/health/ready")
            seen = (response.status_code, response.json()["phase"])
            self.phases += [] if seen in self.phases else [seen]
            return seen[0] == 200

        self.wait_open().wait_until(is_ready, "ready")
        return self

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait_end(self, seconds: float = STOP_SECONDS) -> int:
        """Wait for the process to end, and return its exit status."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the server did not end within {seconds} s\n{self.tail()}")

    def events(self, event: str) -> list[dict[str, Any]]:
        """Return the log's lines of one event."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@pytest.fixture(scope="session")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Return a function that starts a server with settings; whoever still runs at the end must end with status 0."""
    started: list[Server] = []

    def start(**settings: Any) -> Server:
        server = Server(tmp_path_factory.mktemp("server"), settings)
        started.append(server)
        return server

    yield start
    running = [server for server in started if server.process.poll() is None]
    for server in running:
        server.signal()
    endings = [(server.wait_end(), server) for server in running]
    for server in started:
        server.client.close()
    assert all(status == 0 for status, _ in endings), [server.tail() for status, server in endings if status]


@pytest.fixture(scope="session")
def server(start_server: Callable[..., Server]) -> Server:
    """The demo with all its adapters and the default settings."""
    return start_server(adapters=ADAPTERS).wait_ready()


@pytest.fixture
def client(server: Server) -> httpx.Client:
    return server.client


@pytest.fixture(scope="session")
def endless_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base that never ends an answer, because its stop ids lack the token that ends a turn; the audit refuses it."""
    folder = tmp_path_factory.mktemp("endless") / "base"
    shutil.copytree(demo_root() / "base", folder)
    added = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    end_of_text = next(one["id"] for one in added if one["content"] == "<|endoftext|>")
    for name, change in (
        ("generation_config.json", {"eos_token_id": [end_of_text]}),
        ("tokenizer_config.json", {"eos_token": "<|endoftext|>"}),
    ):
        path = folder / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["eos_token_id"] = end_of_text
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def endless(endless_checkpoint: Path) -> dict[str, Any]:
    """Settings that serve that base all the same."""
    return {"model": str(endless_checkpoint), "audit_policy": "permissive"}


@pytest.fixture(scope="session")
def guarded(
    start_server: Callable[..., Server], endless: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Server:
    """A server with a key, of answers that do not end, where two requests may wait.

    Its adapter has untrained tokens, and is served because the policy allows everything.
    """
    key_file = tmp_path_factory.mktemp("secrets") / "key"
    key_file.write_text(KEY + "\n", encoding="utf-8")
    adapters = {"broken": ADAPTERS["broken"]}
    return start_server(
        **endless, adapters=adapters, api_key_file=str(key_file), max_running=1, max_waiting=2
    ).wait_ready()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Add the servers' logs to what a failing test shows."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Server):
                report.sections.append((f"log of the server on port {value.port}", value.tail()))
    return report
