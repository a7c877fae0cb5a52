"""The API key: who gets in, and what stays open."""

import httpx
import pytest

from tests.asking import ENDLESS, assert_problem
from tests.conftest import KEY, Server

SHORT = {**ENDLESS, "max_new_tokens": 2}
RIGHT = b"Bearer " + KEY.encode()


def post(server: Server, *values: bytes, path: str = "/generate") -> httpx.Response:
    return server.client.post(path, json=SHORT, headers=[(b"authorization", value) for value in values])


@pytest.mark.parametrize("value", [RIGHT, b"bearer " + KEY.encode(), b"BEARER  " + KEY.encode()])
def test_the_key_opens(guarded: Server, value: bytes) -> None:
    assert post(guarded, value).status_code == 200


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"Bearer",
        b"Bearer wrong",
        RIGHT[:-1],
        RIGHT + b"x",
        RIGHT.upper(),
        b"Basic " + KEY.encode(),
        KEY.encode(),
        b"Bearer " + KEY.encode("latin-1"),
        b"Bearer \xff\xfe",
        b"Bearer " + b"x" * 20_000,
    ],
)
def test_anything_else_is_answered_401(guarded: Server, value: bytes | None) -> None:
    response = post(guarded, *([] if value is None else [value]))
    assert_problem(response, 401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"
    assert KEY not in response.text


def test_a_refused_client_learns_nothing_of_its_body(guarded: Server) -> None:
    for content in (b"{", b"x" * 100_000):
        response = guarded.client.post("/generate", content=content, headers={"content-type": "application/json"})
        assert_problem(response, 401, "unauthorized")


@pytest.mark.parametrize(
    "path", ["/health/live", "/livez", "/health/ready", "/readyz", "/health/startup", "/health", "/metrics"]
)
def test_probes_and_metrics_need_no_key(guarded: Server, path: str) -> None:
    assert guarded.client.get(path).status_code == 200
    assert guarded.client.head(path).status_code == 200


@pytest.mark.parametrize(
    "path", ["//generate", "/generate/", "/./generate", "/GENERATE", "/generate%2f", "/%67enerate"]
)
def test_no_spelling_of_the_path_goes_round_the_key(guarded: Server, path: str) -> None:
    assert post(guarded, path=path).status_code in (401, 404)


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "GET", "PUT", "DELETE", "TRACE"])
def test_other_methods_do_nothing(guarded: Server, method: str) -> None:
    assert guarded.client.request(method, "/generate").status_code in (401, 405)


def test_other_origins_are_allowed_nothing(guarded: Server) -> None:
    headers = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    for response in (
        guarded.client.options("/generate", headers=headers),
        guarded.client.get("/health", headers=headers),
    ):
        assert not [name for name in response.headers if name.startswith("access-control-")]


def test_the_key_is_in_no_log(guarded: Server) -> None:
    post(guarded, RIGHT)
    log = guarded.log.read_text()
    assert KEY not in log
    assert KEY.encode("unicode_escape").decode() not in log
    assert guarded.events("settings")[0]["api_key"] == "**********"
