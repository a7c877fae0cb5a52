"""Many clients at once: everyone gets their own answer, and nobody is held back by another."""

import json
import random
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from service.demo.drawing import Scene
from service.demo.phrasing import LANGUAGES, answer
from tests.asking import ENDLESS, HELLO, about, ask, assert_problem, events_of, samples_of, streamed
from tests.conftest import BEARER, KEY, Server

NUM_CLIENTS = 32
AT_ONCE_SECONDS = 0.5
"""For what must not wait: far above what it takes, far below an answer that does not end."""


def test_32_clients_at_once_each_get_the_answer_to_their_own_picture(server: Server) -> None:
    rng = random.Random("many clients")
    scenes = [(Scene.random(rng), rng.choice(LANGUAGES)) for _ in range(NUM_CLIENTS)]
    requests = [about(scene, language=language) for scene, language in scenes]

    def send(number: int) -> str:
        with server.connect() as client:
            if number % 2:
                return str(ask(client, requests[number])["text"])
            return "".join(one["text"] for one in streamed(client, requests[number]) if "text" in one)

    with ThreadPoolExecutor(NUM_CLIENTS) as pool:
        together = list(pool.map(send, range(NUM_CLIENTS)))
    assert together == [ask(server.client, request)["text"] for request in requests]
    right = [answer(scene, "describe", language) for scene, language in scenes]
    assert sum(text == wanted for text, wanted in zip(together, right, strict=True)) >= NUM_CLIENTS - 3


@contextmanager
def endless_stream(server: Server, **more: Any) -> Iterator[Iterator[Any]]:
    """Begin an answer that does not end; yields its events, and hangs up at the end."""
    with (
        server.connect(headers=BEARER) as client,
        client.stream("POST", "/generate", json={**ENDLESS, **more, "stream": True}) as response,
    ):
        assert response.status_code == 200
        yield events_of(response.iter_lines())


def numbers(server: Server) -> tuple[float, float]:
    samples = samples_of(server.client)
    return samples["minicpm_requests_running"], samples["minicpm_requests_waiting"]


def is_idle(server: Server) -> bool:
    return numbers(server) == (0, 0)


@pytest.fixture
def idle(guarded: Server) -> Iterator[Server]:
    guarded.wait_until(lambda: is_idle(guarded), "idle before", 5)
    yield guarded
    guarded.wait_until(lambda: is_idle(guarded), "idle after", 5)
    with guarded.connect(headers=BEARER) as client:
        assert ask(client, {**HELLO, "max_new_tokens": 3})["usage"]["generated_tokens"] == 3


@pytest.fixture
def full(idle: Server) -> Iterator[Server]:
    """A server with one endless answer running and two requests waiting, as many as may."""
    with idle.connect(headers=BEARER) as client, ThreadPoolExecutor(2) as pool:
        with endless_stream(idle) as first:
            next(first)
            waiting = [pool.submit(client.post, "/generate", json={**HELLO, "max_new_tokens": 2}) for _ in range(2)]
            idle.wait_until(lambda: numbers(idle) == (1, 2), "full", 5)
            yield idle
        assert [one.result().status_code for one in waiting] == [200, 200]


def test_a_full_queue_answers_429_at_once(full: Server) -> None:
    overloaded = 'minicpm_requests_total{adapter="unknown",outcome="overloaded",route="/generate"}'
    before = samples_of(full.client)[overloaded]
    with full.connect(headers=BEARER) as client:
        for _ in range(20):
            started = time.monotonic()
            response = client.post("/generate", json=HELLO)
            assert time.monotonic() - started < AT_ONCE_SECONDS
            problem = assert_problem(response, 429, "overloaded")
            assert response.headers["x-should-retry"] == "true"
            assert "MINICPM_MAX_WAITING" in problem["detail"]
    assert samples_of(full.client)[overloaded] == before + 20


def test_a_full_queue_decodes_no_picture(full: Server) -> None:
    with full.connect(headers=BEARER) as client:
        wrong = {**HELLO, "images": ["http://not.fetched/"]}
        assert_problem(client.post("/generate", json=wrong), 429, "overloaded")


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health", "/metrics", "/health/tokenizer"])
def test_probes_stay_fast_under_overload(full: Server, path: str) -> None:
    with full.connect(headers=BEARER) as client, ThreadPoolExecutor(8) as pool:  # the pool's requests end first
        refused = [pool.submit(client.post, "/generate", json=HELLO) for _ in range(40)]
        for _ in range(10):
            started = time.monotonic()
            assert full.client.get(path).status_code in (200, 503)
            assert time.monotonic() - started < AT_ONCE_SECONDS
    assert {one.result().status_code for one in refused} == {429}


def test_when_half_of_the_clients_hang_up_the_other_half_is_served(server: Server) -> None:
    requests = [about(Scene("red", "circle", 1, "center", seed), stream=True) for seed in range(16)]

    def send(number: int) -> str | None:
        with server.connect() as client, client.stream("POST", "/generate", json=requests[number]) as response:
            lines = response.iter_lines()
            if number % 2:
                next(lines)
                return None
            return "".join(one["text"] for one in events_of(lines) if "text" in one)

    with ThreadPoolExecutor(16) as pool:
        texts = list(pool.map(send, range(16)))
    server.wait_until(lambda: is_idle(server), "idle", 2)
    assert [text is None for text in texts] == [bool(number % 2) for number in range(16)]
    assert sum(text == answer(Scene("red", "circle", 1, "center"), "describe", "en") for text in texts) >= 7


def test_a_waiting_client_that_hangs_up_leaves_the_queue(idle: Server) -> None:
    with endless_stream(idle) as events:
        next(events)
        body = json.dumps(HELLO).encode()
        head = b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\n"
        with socket.create_connection(("127.0.0.1", idle.port)) as connection:
            connection.sendall(head % KEY.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            idle.wait_until(lambda: numbers(idle) == (1, 1), "one waits", 5)
        idle.wait_until(lambda: numbers(idle) == (1, 0), "none waits", 2)


def test_a_reader_that_stops_reading_holds_nobody_back(idle: Server) -> None:
    body = json.dumps({**ENDLESS, "stream": True, "logprobs": True, "max_new_tokens": 400}).encode()
    head = b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\n"
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        connection.connect(("127.0.0.1", idle.port))
        connection.sendall(head % KEY.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        idle.wait_until(lambda: numbers(idle) == (1, 0), "running", 5)
        with idle.connect(headers=BEARER) as client:  # waits for the engine, not for the reader
            assert ask(client, {**HELLO, "max_new_tokens": 2})["usage"]["generated_tokens"] == 2
        assert len(connection.recv(100)) == 100  # its answer is still there


def test_a_deadline_holds_in_the_queue(idle: Server) -> None:
    with endless_stream(idle) as events, idle.connect(headers=BEARER) as client:
        next(events)
        started = time.monotonic()
        response: httpx.Response = client.post("/generate", json={**HELLO, "timeout_seconds": 0.2})
        assert_problem(response, 504, "deadline-exceeded")
        assert time.monotonic() - started < 3
        idle.wait_until(lambda: numbers(idle) == (1, 0), "it left the queue", 2)
