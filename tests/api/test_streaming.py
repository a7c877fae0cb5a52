"""Server-sent events: what comes, in which order, and what happens when either side ends early."""

import json
import socket

import httpx
import pytest

from service.demo.phrasing import Language
from tests.asking import ENDLESS, SCENE, about, ask, assert_problem, samples_of, streamed
from tests.conftest import BEARER, KEY, Server


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("adapter", [None, "json", "tokens"])
def test_pieces_add_up_to_the_whole_answer(client: httpx.Client, language: Language, adapter: str | None) -> None:
    request = about(SCENE, "describe", language, adapter=adapter, logprobs=True)
    whole = ask(client, request)
    *pieces, summary, done = streamed(client, request)
    assert "".join(one["text"] for one in pieces) == whole["text"]
    assert len(pieces) > 1
    assert all("\ufffd" not in one["text"] for one in pieces)
    assert [token for one in pieces for token in one["logprobs"]] == whole["logprobs"]
    assert summary.keys() == {"finish_reason", "usage", "timings", "token_health"}
    assert (summary["finish_reason"], summary["usage"]) == (whole["finish_reason"], whole["usage"])
    assert done == "[DONE]"


def test_each_event_is_valid_utf_8_of_its_own(client: httpx.Client) -> None:
    request = {**about(SCENE, "describe", "zh"), "temperature": 5.0, "seed": 2, "max_new_tokens": 60, "stream": True}
    raw = client.post("/generate", json=request).content
    blocks = raw.split(b"\n\n")
    assert blocks.pop() == b""
    assert all(one.startswith(b"data: ") for one in blocks)
    pieces = [json.loads(one.decode("utf-8").removeprefix("data: ")) for one in blocks[:-2]]
    assert "".join(one["text"] for one in pieces) == ask(client, {**request, "stream": False})["text"]


def test_the_headers_keep_proxies_from_buffering(client: httpx.Client) -> None:
    response = client.post("/generate", json=about(SCENE, stream=True), headers={"x-request-id": "stream-1"})
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["x-request-id"] == "stream-1"


def test_the_connection_is_used_again_after_a_stream(server: Server) -> None:
    with server.connect(limits=httpx.Limits(max_connections=1)) as one:
        streams = [one.post("/generate", json=about(SCENE, stream=True)) for _ in range(2)]
        peers = {response.extensions["network_stream"].get_extra_info("client_addr") for response in streams}
    assert len(peers) == 1


def test_an_error_before_the_first_byte_has_a_status(client: httpx.Client) -> None:
    for wrong, status, kind in (
        ({"temperature": -1}, 422, "invalid-field"),
        ({"adapter": "nobody"}, 404, "adapter-unknown"),
        ({"timeout_seconds": 1e-6}, 504, "deadline-exceeded"),
    ):
        assert_problem(client.post("/generate", json={**about(SCENE, stream=True), **wrong}), status, kind)


def test_an_error_after_the_first_byte_is_the_last_event(guarded: Server) -> None:
    with guarded.connect(headers=BEARER) as client:
        *pieces, last = streamed(client, {**ENDLESS, "timeout_seconds": 1.0})
    assert pieces
    assert all("text" in one for one in pieces)
    assert last["error"]["status"] == 504
    assert last["error"]["type"] == "urn:minicpm:problem:deadline-exceeded"
    assert last["error"]["request_id"]


def is_idle(server: Server) -> bool:
    samples = samples_of(server.client)
    return not samples["minicpm_requests_running"] and not samples["minicpm_requests_waiting"]


@pytest.mark.parametrize("is_stream", [True, False])
def test_a_client_that_hangs_up_frees_the_engine_at_once(guarded: Server, is_stream: bool) -> None:
    cancelled = 'minicpm_requests_total{adapter="base",outcome="cancelled",route="/generate"}'
    before = samples_of(guarded.client)[cancelled]
    body = json.dumps({**ENDLESS, "stream": is_stream}).encode()
    head = b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\n"
    head += b"Content-Length: %d\r\n\r\n"
    with socket.create_connection(("127.0.0.1", guarded.port)) as connection:
        connection.sendall(head % (KEY.encode(), len(body)) + body)
        guarded.wait_until(lambda: not is_idle(guarded), "running", 5)
        if is_stream:
            assert b"200 OK" in connection.recv(1000)
    guarded.wait_until(lambda: is_idle(guarded), "idle after the hang-up", 5)
    guarded.wait_until(lambda: samples_of(guarded.client)[cancelled] == before + 1, "one more cancelled", 2)


def test_a_hang_up_in_mid_body_is_no_error_of_the_server(guarded: Server) -> None:
    failed = 'minicpm_requests_total{adapter="base",outcome="server_error",route="/generate"}'
    before = samples_of(guarded.client)[failed]
    for content_type in (b"application/json", b"multipart/form-data; boundary=x"):
        with socket.create_connection(("127.0.0.1", guarded.port)) as connection:
            head = b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: 100\r\n"
            connection.sendall(head % content_type + b"Authorization: Bearer %s\r\n\r\n{" % KEY.encode())
    guarded.wait_until(lambda: is_idle(guarded), "idle", 2)
    assert samples_of(guarded.client)[failed] == before
