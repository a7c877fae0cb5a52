"""The shape of errors, request ids, and what is refused before a body is read."""

import json
import socket
from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.responses import StreamingResponse

from service.api import problems
from service.api.middleware import Defects, Recording, RequestId
from tests.asking import HELLO, ask, assert_problem
from tests.conftest import Server

LIMIT = 20_000_000
JSON = {"content-type": "application/json"}


def test_a_client_s_request_id_is_kept(client: httpx.Client) -> None:
    for given in ("a", "A.b_c-9", "x" * 128):
        response = client.post("/generate", json=HELLO, headers={"x-request-id": given})
        assert response.headers["x-request-id"] == response.json()["id"] == given
        problem = assert_problem(
            client.post("/generate", json={}, headers={"x-request-id": given}), 422, "invalid-field"
        )
        assert problem["request_id"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "two words", "a/b", "a\tb", "é", 'a"b', "<script>"])
def test_any_other_request_id_is_replaced(client: httpx.Client, given: str) -> None:
    response = client.get("/health/live", headers=[(b"x-request-id", given.encode())])
    assert len(response.headers["x-request-id"]) == 32
    assert response.headers["x-request-id"] != client.get("/health/live").headers["x-request-id"]


@pytest.mark.parametrize(
    "path", ["/nope", "/generate/", "//generate", "/v1/nope", "/%00", "/health/", "/" + "x" * 5000]
)
def test_a_path_that_does_not_exist_is_answered_404(client: httpx.Client, path: str) -> None:
    detail = assert_problem(client.get(path), 404, "not-found")["detail"]
    assert "/generate" in detail
    assert "/openapi.json" in detail
    assert_problem(client.post(path, json=HELLO), 404, "not-found")


@pytest.mark.parametrize(("method", "path"), [("GET", "/generate"), ("PUT", "/generate"), ("POST", "/health/live")])
def test_another_method_is_answered_405_with_the_right_ones(client: httpx.Client, method: str, path: str) -> None:
    response = client.request(method, path)
    assert_problem(response, 405, "method-not-allowed")
    assert response.headers["allow"] in response.json()["detail"]


@pytest.mark.parametrize("host", ["[", "[::1", "evil.example", "a b", "x" * 2000, "127.0.0.1:99999", "é"])
@pytest.mark.parametrize("path", ["/health/live", "/nope", "/generate/"])
def test_an_odd_host_header_neither_breaks_nor_comes_back(server: Server, host: str, path: str) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.split(b" ")[1] in (b"200", b"404", b"400")
    assert b"evil" not in answer
    assert b"location" not in answer.lower()


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "", "x" * 3000, "image/png"]
)
def test_another_content_type_is_answered_415(client: httpx.Client, content_type: str) -> None:
    response = client.post("/generate", content=b"{}", headers={"content-type": content_type} if content_type else {})
    problem = assert_problem(response, 415, "unsupported-media-type")
    assert "application/json" in problem["detail"]


def test_a_content_type_may_carry_parameters_and_capitals(client: httpx.Client) -> None:
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    assert client.post("/generate", content=json.dumps(HELLO), headers=headers).status_code == 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, identity"])
def test_a_compressed_body_is_refused(client: httpx.Client, encoding: str) -> None:
    headers = {**JSON, "content-encoding": encoding}
    assert_problem(client.post("/generate", content=b"x", headers=headers), 415, "unsupported-media-type")


def test_a_body_over_the_limit_is_refused_from_its_length_alone(server: Server) -> None:
    head = (
        f"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {LIMIT + 1}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(head.encode())  # and not one byte of the body
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()
    assert b"MINICPM_MAX_BODY_BYTES" in answer


def test_a_body_over_the_limit_is_refused_without_a_length_too(client: httpx.Client) -> None:
    def chunks(first: bytes = b"") -> Iterator[bytes]:
        yield first
        for _ in range(LIMIT // 100_000 + 10):
            yield b" " * 100_000

    for body in (chunks(), b" " * (LIMIT + 1)):
        response = client.post("/generate", content=body, headers=JSON)
        assert_problem(response, 413, "body-too-large")
        assert response.headers["connection"] == "close"
    part = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    form = {"content-type": "multipart/form-data; boundary=x"}
    assert_problem(client.post("/generate", content=chunks(part), headers=form), 413, "body-too-large")
    assert ask(client, HELLO)["text"]


def test_a_body_at_the_limit_is_read(client: httpx.Client) -> None:
    body = json.dumps(HELLO).encode()
    assert client.post("/generate", content=body + b" " * (LIMIT - len(body)), headers=JSON).status_code == 200


def test_a_large_get_is_answered_all_the_same(client: httpx.Client) -> None:
    assert client.request("GET", "/health/live", content=b"x" * 1000).status_code == 200


def test_pipelined_requests_after_a_refusal_are_answered(server: Server) -> None:
    refused = b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 200000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(refused + b"x" * 200_000)
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.count(b"HTTP/1.1 415 ") == 1
    assert answer.count(b"HTTP/1.1 200 ") == 1


def failing_app() -> FastAPI:
    """Put routes with a mistake inside of the real middleware."""
    app = FastAPI()

    @app.get("/mistake")
    async def mistake() -> None:
        raise RuntimeError("/secret/path")

    @app.get("/late")
    async def late() -> StreamingResponse:
        async def chunks():  # type: ignore[no-untyped-def]
            yield "first"
            raise RuntimeError("/secret/path")

        return StreamingResponse(chunks())

    problems.install(app)
    app.add_middleware(Defects)
    app.add_middleware(Recording, observe=lambda *_: None, is_draining=lambda: False)
    app.add_middleware(RequestId)
    return app


def test_an_exception_that_nobody_expected_is_a_500_with_a_request_id_and_no_details() -> None:
    client = TestClient(failing_app(), raise_server_exceptions=False)
    response = client.get("/mistake", headers={"x-request-id": "mine"})
    problem = assert_problem(response, 500, "internal")  # type: ignore[arg-type]
    assert problem["request_id"] == "mine"
    assert "secret" not in response.text


def test_an_exception_after_the_first_byte_cuts_the_answer() -> None:
    with pytest.raises(RuntimeError):
        TestClient(failing_app()).get("/late")
