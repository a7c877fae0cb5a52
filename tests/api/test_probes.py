"""Probes, the audit's report and the OpenAPI document."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from service.api.schemas import GenerateRequest, GenerateResponse
from service.demo.phrasing import MARKUP_TOKENS
from tests.asking import HELLO, SCENES, ask, assert_problem, user
from tests.conftest import ADAPTERS, Server

PROBES = ["/health/live", "/livez", "/health/ready", "/readyz", "/health/startup", "/health"]
SLOW_SECONDS = 0.5
"""Far above what a probe takes, and far below an answer of eight pictures, on a busy machine."""


def test_probes_answer_from_the_first_second(server: Server) -> None:
    early = server.early
    statuses = {path: response.status_code for path, response in early.items()}
    assert statuses == {
        "/livez": 200,
        "/readyz": 503,
        "/health": 503,
        "/health/startup": 503,
        "/health/tokenizer": 503,
        "/metrics": 200,
        "/generate": 503,
    }
    assert early["/health"].json()["phase"] == "loading"
    assert early["/health/tokenizer"].json()["verdict"] is None
    assert 'minicpm_phase{phase="loading"} 1.0' in early["/metrics"].text
    assert "loading" in assert_problem(early["/generate"], 503, "not-ready")["detail"]
    assert early["/generate"].headers["x-should-retry"] == "true"


def test_ready_comes_last_and_once(server: Server) -> None:
    assert server.phases[0] == (503, "loading")
    assert server.phases[-1] == (200, "ready")
    order = [phase for _, phase in server.phases]
    assert order == [phase for phase in ("loading", "auditing", "warming", "ready") if phase in order]
    assert all(status == 503 for status, phase in server.phases if phase != "ready")


@pytest.mark.parametrize("path", PROBES)
def test_a_ready_server_s_probes_are_200_to_get_and_head(client: httpx.Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200
    assert response.json()["phase"] == "ready"
    assert response.headers["cache-control"] == "no-store"
    head = client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == response.headers["content-length"]


def test_the_summary_names_what_is_loaded_and_every_verdict(client: httpx.Client) -> None:
    body = client.get("/health").json()
    assert body["verdicts"]["base"] == "consistent"
    assert body["verdicts"]["adapter:broken"] == "inconsistent"
    assert set(body["loaded"]) >= {"device", "dtype", "family"}


def test_probes_stay_fast_while_the_engine_works(server: Server) -> None:
    heavy = {"messages": [user(*SCENES, *SCENES, "What is in the first picture?")], "max_new_tokens": 200}
    heavy |= {"temperature": 5.0, "seed": 2}
    slowest = dict.fromkeys([*PROBES, "/metrics", "/health/tokenizer"], 0.0)
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(server.client.post, "/generate", json=heavy) for _ in range(8)]
        while not all(one.done() for one in answers):
            for path in slowest:
                started = time.monotonic()
                server.client.get(path)
                slowest[path] = max(slowest[path], time.monotonic() - started)
    assert [one.result().status_code for one in answers] == [200] * 8
    assert max(slowest.values()) < SLOW_SECONDS, slowest


def test_the_report_is_503_while_one_adapter_is_refused(client: httpx.Client) -> None:
    response = client.get("/health/tokenizer")
    body = response.json()
    assert response.status_code == 503
    assert (body["verdict"], body["is_complete"], body["phase"]) == ("inconsistent", True, "ready")
    assert set(body["subjects"]) == {"base", *(f"adapter:{name}" for name in ADAPTERS)}
    for subject, part in body["subjects"].items():
        assert part["verdict"] == ("inconsistent" if subject == "adapter:broken" else "consistent")
        assert part["fingerprint"]
        assert part["checks"]
        assert set(part["exposure"]) == {"prompt", "generated"}


@pytest.mark.parametrize(("adapter", "status"), [("base", 200), ("json", 200), ("tokens", 200), ("broken", 503)])
def test_the_report_of_one_subject(client: httpx.Client, adapter: str, status: int) -> None:
    response = client.get("/health/tokenizer", params={"adapter": adapter})
    assert response.status_code == status
    assert response.json()["subject"] == ("base" if adapter == "base" else f"adapter:{adapter}")


def test_the_broken_adapter_s_report_names_its_untrained_tokens(client: httpx.Client) -> None:
    body = client.get("/health/tokenizer", params={"adapter": "broken"}).json()
    assert {one["token"] for one in body["undertrained_tokens"]} == set(MARKUP_TOKENS)
    fatal = [one for one in body["findings"] if one["severity"] == "fatal"]
    assert fatal
    assert all(one["consequence"] and one["repair"] for one in fatal)


@pytest.mark.parametrize("adapter", ["", "nobody", "../x", "a\0b", "x" * 300, "adapter:json", "JSON"])
def test_the_report_of_an_unknown_adapter_is_404(client: httpx.Client, adapter: str) -> None:
    assert_problem(client.get("/health/tokenizer", params={"adapter": adapter}), 404, "adapter-unknown")


def test_the_document_shows_the_routes_and_every_error(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) >= {"/generate", "/health", "/health/live", "/health/ready", "/health/startup"}
    assert set(document["paths"]) >= {"/health/tokenizer", "/metrics"}
    operation = document["paths"]["/generate"]["post"]
    assert set(operation["responses"]) == {"200", *map(str, (400, 401, 404, 413, 415, 422, 429, 500, 503, 504))}
    for status, response in operation["responses"].items():
        expected = {"application/json", "text/event-stream"} if status == "200" else {"application/problem+json"}
        assert set(response["content"]) == expected
    assert set(operation["requestBody"]["content"]) == {"application/json", "multipart/form-data"}


def test_the_document_s_schemas_are_pydantic_s(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    wanted = GenerateRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    assert wanted.pop("$defs").items() <= schemas.items()
    assert schemas["GenerateRequest"] == wanted
    assert set(schemas["GenerateResponse"]["properties"]) == set(GenerateResponse.model_fields)
    assert set(ask(client, HELLO)) == set(GenerateResponse.model_fields)
    references = set(_references(document))
    assert references
    assert references <= {f"#/components/schemas/{name}" for name in schemas}


def test_the_document_shows_no_error_that_is_never_sent(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    assert "ValidationError" not in str(document)
    assert set(document["paths"]["/health/tokenizer"]["get"]["responses"]) == {"200", "404", "503"}
    twice = client.get("/health/tokenizer?adapter=json&adapter=%00&other=1")
    assert_problem(twice, 404, "adapter-unknown")


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [one for value in node.values() for one in _references(value)]
    if isinstance(node, list):
        return [one for value in node for one in _references(value)]
    return []
