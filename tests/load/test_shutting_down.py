"""The end of a process, and starts that end in a refusal."""

import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.asking import ENDLESS, HELLO, assert_problem, events_of
from tests.conftest import Server


@pytest.fixture(scope="module")
def pair(start_server: Callable[..., Server], endless: dict[str, Any]) -> tuple[Server, Server]:
    """Two servers, one that drains for 2 seconds and one for 60; they start together, one a core."""
    short, long = start_server(**endless, max_running=1, drain_seconds=2), start_server(**endless, drain_seconds=60)
    return short.wait_ready(), long.wait_ready()


def test_sigterm_while_loading_ends_with_0(start_server: Callable[..., Server], endless: dict[str, Any]) -> None:
    server = start_server(**endless).wait_open()
    server.signal()
    assert server.wait_end() == 0


def test_sigterm_lets_answers_finish_cuts_the_rest_and_ends_with_0(pair: tuple[Server, Server]) -> None:
    server, _ = pair

    def stream(**more: Any) -> list[Any]:
        with server.connect() as client:
            response = client.post("/generate", json={**ENDLESS, "stream": True, **more})
            return [response.headers.get("connection"), *events_of(response.text.splitlines())]

    with ThreadPoolExecutor(3) as pool, server.connect() as client:
        brief = client.build_request("POST", "/generate", json={**ENDLESS, "stream": True, "max_new_tokens": 40})
        short = client.send(brief, stream=True)
        events = events_of(short.iter_lines())
        assert "text" in next(events)
        long = pool.submit(stream)
        server.wait_until(lambda: " 1.0" in metric(server, "minicpm_requests_waiting"), "one waits", 5)
        whole = pool.submit(server.client.post, "/generate", json=ENDLESS)
        server.wait_until(lambda: " 2.0" in metric(server, "minicpm_requests_waiting"), "two wait", 5)
        signalled_at = time.monotonic()
        server.signal()
        with server.connect() as late:
            server.wait_until(lambda: late.get("/health/ready").status_code == 503, "not ready", 1)
            ready = late.get("/health/ready")
            assert ready.json()["phase"] == "draining"
            assert ready.headers["connection"] == "close"
            assert late.get("/health/live").status_code == 200
            refused = late.post("/generate", json=HELLO)
            assert "shutting down" in assert_problem(refused, 503, "not-ready")["detail"]
            assert refused.headers["connection"] == "close"
        *_, summary, done = events
        assert (summary["finish_reason"], done) == ("length", "[DONE]")
        short.close()
        last = long.result()[-1]
        assert last["error"]["status"] == 503
        assert "shut down" in last["error"]["detail"]
        problem = assert_problem(whole.result(), 503, "not-ready")
        assert "shut down" in problem["detail"]
    assert server.wait_end() == 0
    assert 2 <= time.monotonic() - signalled_at < 2 + 6
    assert {line["outcome"] for line in server.events("request") if line["path"] == "/generate"} == {"ok", "refused"}
    assert "Traceback" not in server.log.read_text()


def metric(server: Server, name: str) -> str:
    return next(line for line in server.client.get("/metrics").text.splitlines() if line.startswith(name + " "))


def test_a_second_signal_ends_at_once(pair: tuple[Server, Server]) -> None:
    _, server = pair
    with server.client.stream("POST", "/generate", json={**ENDLESS, "stream": True}) as response:
        next(response.iter_lines())
        server.signal()
        server.wait_until(lambda: server.status_of("/health/ready") == 503, "draining", 2)
        server.signal(signal.SIGINT)
        started = time.monotonic()
        assert server.wait_end() == 0
    assert time.monotonic() - started < 10  # where draining would take 60


def test_a_refused_base_stays_up_and_says_why(start_server: Callable[..., Server], endless_checkpoint: Path) -> None:
    server = start_server(model=str(endless_checkpoint)).wait_open()
    server.wait_until(lambda: server.client.get("/health").json()["phase"] == "rejected", "rejected")
    client = server.client
    assert client.get("/health/live").status_code == 200
    assert client.get("/health/startup").status_code == 200
    ready = client.get("/health/ready")
    assert ready.status_code == 503
    assert "/health/tokenizer" in ready.json()["detail"]
    report = client.get("/health/tokenizer")
    assert report.status_code == 503
    assert report.json()["subjects"]["base"]["verdict"] == "inconsistent"
    response = client.post("/generate", json=HELLO)
    problem = assert_problem(response, 503, "refused")
    assert response.headers["x-should-retry"] == "false"
    assert {(one["check"], one["severity"]) for one in problem["findings"]} == {("stop_set", "fatal")}
    metrics = client.get("/metrics").text
    assert 'minicpm_audit_verdict{subject="base"} 0.0' in metrics
    assert 'minicpm_phase{phase="rejected"} 1.0' in metrics
    server.signal()
    assert server.wait_end() == 0


def test_a_refused_base_ends_the_process_with_1_if_told_to(
    start_server: Callable[..., Server], endless_checkpoint: Path
) -> None:
    server = start_server(model=str(endless_checkpoint), on_rejected="exit")
    assert server.wait_end(90) == 1
    assert [line["check"] for line in server.events("finding") if line["severity"] == "fatal"] == ["stop_set"]


def test_a_demo_that_there_is_not_is_told_with_those_there_are(start_server: Callable[..., Server]) -> None:
    server = start_server(model="demo-4.6", on_rejected="exit")
    assert server.wait_end(90) == 1
    assert "'demo-4.6' is neither a folder nor a hub id" in server.log.read_text()
    assert "the built-in demos are demo and demo-4.5" in server.log.read_text()


def test_a_folder_that_is_not_there_is_refused_without_a_crash_loop(start_server: Callable[..., Server]) -> None:
    server = start_server(model="/there/is/nothing/here").wait_open()
    server.wait_until(lambda: server.client.get("/health").json()["phase"] == "rejected", "rejected")
    assert server.client.get("/health/live").status_code == 200
    assert "/there" not in server.client.get("/health").text
    assert server.client.get("/health/ready").status_code == 503
    assert_problem(server.client.post("/generate", json=HELLO), 503, "refused")
    server.signal()
    assert server.wait_end() == 0
