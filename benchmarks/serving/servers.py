"""Starts one server, waits until it answers, and ends it with everything that it started.

Knows commands and health routes, no load.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.serving.dialects import MODEL_NAME, Dialect, Native, OpenAI
from benchmarks.serving.machine import resident_bytes
from benchmarks.serving.peers import PeerUnavailable, environment, last_line
from benchmarks.serving.shapes import CONTEXT_TOKENS

DEFAULT_CACHE = Path.home() / ".cache" / "minicpm-service-bench"
"""For checkpoints, environments and logs."""
HOST = "127.0.0.1"
START_SECONDS = 900.0
END_SECONDS = 40.0
POLL_SECONDS, POLL_TIMEOUT_SECONDS = 0.2, 5.0
TIMEOUT_SECONDS = 900
MAX_WAITING = 512
KEYS_GIBIBYTES = 2
"""Memory for vLLM's keys, values and states."""


@dataclass(frozen=True, slots=True)
class Launch:
    """A command that serves one model.

    Attributes:
        health: The route that answers 200 once the model is loaded.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    health: str
    dialect: Dialect


@dataclass(slots=True)
class Running:
    """A server that answers.

    Attributes:
        start_seconds: From its start until it was healthy.
        peak_bytes: Largest resident memory seen so far.
    """

    launch: Launch
    url: str
    pid: int
    start_seconds: float
    peak_bytes: int = 0

    def resident_bytes(self) -> int:
        """Return what it takes now."""
        now = resident_bytes(self.pid)
        self.peak_bytes = max(self.peak_bytes, now)
        return now


def launch_of(name: str, folder: Path, cache: Path, num_threads: int, extra: tuple[str, ...] = ()) -> Launch:
    """Return how a server is started on a checkpoint; installs it first if need be.

    Args:
        name: `ours`, `vllm` or `transformers`.
        folder: The checkpoint.
        cache: Where environments are kept.
        num_threads: Of this server.
        extra: More arguments of its command line.

    vLLM leaves one core to its front end by default; here it leaves what `num_threads` leaves.

    Raises:
        PeerUnavailable: It could not be installed.
    """
    threads = {f"{kind}_NUM_THREADS": str(num_threads) for kind in ("OMP", "MKL", "OPENBLAS")}
    common = {**threads, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if name == "ours":
        command: tuple[str, ...] = (sys.executable, "-m", "service", "serve", *extra)
        return Launch(name, command, {**common, **_our_settings(str(folder))}, "/health/ready", Native())
    binaries = environment(cache, name)
    if name == "vllm":
        command = (str(binaries / "vllm"), "serve", str(folder), "--served-model-name", MODEL_NAME)
        command += ("--dtype", "bfloat16", "--max-model-len", str(CONTEXT_TOKENS), "--host", HOST)
        command += ("--limit-mm-per-prompt", '{"image": 1, "video": 0}', "--disable-uvicorn-access-log", *extra)
        settings = {
            "PATH": f"{binaries}:{os.environ['PATH']}",
            "VLLM_CPU_KVCACHE_SPACE": str(KEYS_GIBIBYTES),
            "VLLM_CPU_NUM_OF_RESERVED_CPU": str(max((os.cpu_count() or 1) - num_threads, 0)),
            "VLLM_NO_USAGE_STATS": "1",
        }
        return Launch(name, command, {**common, **settings}, "/health", OpenAI(asks_usage=True))
    command = (str(binaries / "transformers"), "serve", str(folder), "--dtype", "bfloat16", "--device", "cpu")
    command += ("--host", HOST, *extra)
    return Launch(name, command, common, "/health", OpenAI(str(folder), asks_usage=False))


def _our_settings(model: str) -> dict[str, str]:
    return {
        "MINICPM_MODEL": model,
        "MINICPM_DEVICE": "cpu",
        "MINICPM_DTYPE": "bfloat16",
        "MINICPM_HOST": HOST,
        "MINICPM_MAX_WAITING": str(MAX_WAITING),
        "MINICPM_TIMEOUT_SECONDS": str(TIMEOUT_SECONDS),
        "MINICPM_ON_REJECTED": "exit",
        "MINICPM_LOG_LEVEL": "warning",
    }


def launch_demo(num_threads: int) -> Launch:
    """Return how our service is started on the model that it ships, with default settings but for the queue."""
    settings = {**_our_settings("demo"), "OMP_NUM_THREADS": str(num_threads), "MINICPM_DTYPE": "auto"}
    return Launch("ours", (sys.executable, "-m", "service", "serve"), settings, "/health/ready", Native())


def end_servers_on_sigterm() -> None:
    """Turn SIGTERM into an exception, so that a harness that is told to end ends its server too."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


@contextmanager
def running(launch: Launch, log: Path) -> Iterator[Running]:
    """Run a server for as long as the block lasts.

    Args:
        launch: What to run.
        log: Takes its output.

    Raises:
        PeerUnavailable: It ended, or did not become healthy in time.
    """
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = str(probe.getsockname()[1])
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*launch.command, "--port", port],
            env={**os.environ, **launch.environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Running(launch, f"http://{HOST}:{port}", process.pid, 0.0)
    stop = threading.Event()
    watch = threading.Thread(target=_watch_memory, args=(server, stop), daemon=True)
    try:
        _wait_until_healthy(process, server.url + launch.health, log, started + START_SECONDS)
        server.start_seconds = time.monotonic() - started
        watch.start()
        yield server
    finally:
        stop.set()
        _end(process)


def _watch_memory(server: Running, stop: threading.Event) -> None:
    while not stop.wait(1.0):
        server.resident_bytes()


def _wait_until_healthy(process: subprocess.Popen[bytes], url: str, log: Path, deadline: float) -> None:
    said = "it did not become healthy in time"
    with httpx.Client(timeout=POLL_TIMEOUT_SECONDS) as client:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                text = log.read_text(encoding="utf-8", errors="replace")
                raise PeerUnavailable(last_line(text) or f"it ended with status {process.returncode}")
            with suppress(httpx.TransportError):
                answer = client.get(url)
                if answer.status_code == 200:
                    return
                said = f"{answer.status_code}: {answer.text[:300]}"
            time.sleep(POLL_SECONDS)
    raise PeerUnavailable(said)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server's own process group: politely, then for good."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(END_SECONDS)
