"""Measures how long the command line and the service take to start, with the demo model and its adapters.

    .venv/bin/python benchmarks/startup.py --runs 5

Prints the median and range over several starts: `--help`, the first answered probe, READY, and the first answer.
"""

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from service.demo import demo_root

ADAPTERS = {name: str(demo_root() / "adapters" / name) for name in ("json", "tokens", "official")}
PICTURE = Path(demo_root()).parent / "pictures" / "red-circle-top-left.png"


def main() -> None:
    """Run the measurement and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    samples: dict[str, list[float]] = {"--help": [_help_seconds() for _ in range(runs)]}
    for _ in range(runs):
        for name, seconds in _start_seconds().items():
            samples.setdefault(name, []).append(seconds)
    print(f"seconds over {runs} runs, {os.cpu_count()} cores, {len(ADAPTERS)} adapters")
    for name, values in samples.items():
        print(f"{name:14} median {statistics.median(values):6.2f}   {min(values):6.2f} to {max(values):6.2f}")


def _help_seconds() -> float:
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "service", "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def _start_seconds() -> dict[str, float]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "MINICPM_PORT": str(port), "MINICPM_ADAPTERS": json.dumps(ADAPTERS)}
    started = time.monotonic()
    server = subprocess.Popen(
        [sys.executable, "-m", "service", "serve"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            first = _wait_for(client, "/health/live", started)
            ready = _wait_for(client, "/health/ready", started)
            files: dict[str, Any] = {
                "request": (None, json.dumps({"prompt": "What is in the picture?"})),
                "image": PICTURE.read_bytes(),
            }
            client.post("/generate", files=files).raise_for_status()
            return {"first probe": first, "READY": ready, "first answer": time.monotonic() - started}
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


def _wait_for(client: httpx.Client, path: str, started: float) -> float:
    while time.monotonic() - started < 120:
        try:
            if client.get(path).status_code == 200:
                return time.monotonic() - started
        except httpx.TransportError:
            pass
        time.sleep(0.02)
    raise TimeoutError(f"{path} did not answer 200 within 120 s")


if __name__ == "__main__":
    main()
