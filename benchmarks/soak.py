"""Sends many small requests to the service on the demo model and watches its memory.

    python -m benchmarks.soak --requests 10000 --clients 16

Prints errors, requests per second, latencies, and the slope of resident memory over the requests, by least squares
over the second half: in the first one, caches and arenas fill. Fails if a request failed or, in a run of at least 2,000
requests, memory grows faster than --max-slope.
"""

import argparse
import asyncio
import json
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import httpx
import numpy as np

from benchmarks.serving.machine import commit, describe_machine
from benchmarks.serving.servers import DEFAULT_CACHE, Running, end_servers_on_sigterm, launch_demo, running
from service.demo import demo_root

PICTURES = sorted((Path(demo_root()).parent / "pictures").glob("*.png"))
PROMPTS = ("What is in the picture?", "How many are there?", "图里有什么？", "What colour is it?")
TEXT_PROMPTS = ("Hello", "What can you do?", "Name a colour.")
PICTURE_EVERY, STREAM_EVERY = 4, 2
WARM_UP_SHARE = 0.5
LEAST_REQUESTS = 2000
"""A shorter run says nothing about growth."""
SAMPLE_SECONDS = 0.5
KILOBYTE = 1e3


@dataclass(slots=True)
class Tally:
    """What happened so far.

    Attributes:
        memory: Answers so far, and resident bytes, at moments of the run.
    """

    seconds: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    memory: list[tuple[int, int]] = field(default_factory=list)

    @property
    def num_done(self) -> int:
        """Requests that are over, well or not."""
        return len(self.seconds) + self.errors.total()


def main() -> int:
    """Run the soak and print what it found; 1 if a request failed or memory grows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=8, help="most tokens of an answer")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--max-slope", type=float, default=1.0, help="kilobytes per request")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="for the log")
    known = parser.parse_args()
    end_servers_on_sigterm()
    print(f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}; {describe_machine(known.threads)}; commit {commit()}")
    with running(launch_demo(known.threads), known.cache / "logs" / "soak.log") as server:
        started = time.perf_counter()
        tally = asyncio.run(_soak(server, known.requests, known.clients, known.tokens))
        elapsed = time.perf_counter() - started
    return _report(tally, elapsed, known)


async def _soak(server: Running, num_requests: int, num_clients: int, tokens: int) -> Tally:
    tally, left = Tally(), iter(range(num_requests))
    limits = httpx.Limits(max_connections=num_clients + 4)
    async with httpx.AsyncClient(base_url=server.url, timeout=120, limits=limits) as client:

        async def one_client() -> None:
            for number in left:
                await _ask(client, number, tokens, tally)

        watch = asyncio.create_task(_watch(server, tally))
        await asyncio.gather(*(one_client() for _ in range(num_clients)))
        watch.cancel()
    tally.memory.append((tally.num_done, server.resident_bytes()))
    return tally


async def _ask(client: httpx.AsyncClient, number: int, tokens: int, tally: Tally) -> None:
    """Ask with or without a picture, streamed or not, and note how it went."""
    has_picture, is_stream = number % PICTURE_EVERY == 0, number % STREAM_EVERY == 0
    prompts = PROMPTS if has_picture else TEXT_PROMPTS
    request = {"prompt": prompts[number % len(prompts)], "max_new_tokens": tokens, "stream": is_stream}
    files: dict[str, tuple[str | None, str | bytes]] = {"request": (None, json.dumps(request))}
    if has_picture:
        files["image"] = ("picture.png", PICTURES[number % len(PICTURES)].read_bytes())
    started = time.perf_counter()
    try:
        answer = await client.post("/generate", files=files)
    except httpx.HTTPError as error:
        tally.errors[type(error).__name__] += 1
        return
    if answer.status_code != 200:
        tally.errors[f"status {answer.status_code}"] += 1
    elif is_stream and not answer.text.rstrip().endswith("data: [DONE]"):
        tally.errors["stream without an end"] += 1
    else:
        tally.seconds.append(time.perf_counter() - started)


async def _watch(server: Running, tally: Tally) -> None:
    while True:
        tally.memory.append((tally.num_done, server.resident_bytes()))
        await asyncio.sleep(SAMPLE_SECONDS)


def _report(tally: Tally, elapsed: float, known: argparse.Namespace) -> int:
    slope = _slope(tally, known.requests)
    print(f"{tally.num_done} requests by {known.clients} clients, {elapsed:.0f} s: {tally.num_done / elapsed:.1f}/s")
    print(f"errors: {dict(tally.errors) or 'none'}")
    if tally.seconds:
        p50, p99 = np.quantile(tally.seconds, (0.5, 0.99))
        print(f"latency: median {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms")
    first, last = tally.memory[0][1], tally.memory[-1][1]
    peak = max(size for _, size in tally.memory)
    print(f"resident memory: {first / 1e6:.0f} MB at first, {last / 1e6:.0f} MB at last, {peak / 1e6:.0f} MB at most")
    print(f"slope over the second half: {slope / KILOBYTE:+.3f} kB per request, {slope * 1e4 / 1e6:+.1f} MB per 10,000")
    is_growing = tally.num_done >= LEAST_REQUESTS and slope / KILOBYTE > known.max_slope
    return 1 if tally.errors or is_growing else 0


def _slope(tally: Tally, num_requests: int) -> float:
    """Return the bytes that a request leaves behind, by least squares; 0 if there are too few samples."""
    samples = [one for one in tally.memory if one[0] >= WARM_UP_SHARE * num_requests]
    if len({done for done, _ in samples}) < 3:
        return 0.0
    done, size = np.array(samples, dtype=np.float64).T
    return float(np.polyfit(done, size, 1)[0])


if __name__ == "__main__":
    raise SystemExit(main())
