"""Every response says which checkpoint it is about."""

import httpx

from tests.conftest import BEARER


def test_every_response_carries_the_base_s_fingerprint(client: httpx.Client) -> None:
    expected = client.get("/health/tokenizer?adapter=base").json()["fingerprint"]
    for path in ("/health/live", "/metrics", "/no/such/route"):
        assert client.get(path).headers["x-checkpoint-fingerprint"] == expected


def test_an_adapter_s_answer_carries_its_fingerprint_too(client: httpx.Client) -> None:
    base = client.get("/health/tokenizer?adapter=base").json()["fingerprint"]
    adapter = client.get("/health/tokenizer?adapter=json").json()["fingerprint"]
    for stream in (False, True):
        body = {"prompt": "Hi", "adapter": "json", "max_new_tokens": 1, "stream": stream}
        response = client.post("/generate", json=body, headers=BEARER)
        assert response.headers["x-checkpoint-fingerprint"] == f"{base}+{adapter}"
