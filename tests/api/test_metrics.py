"""The metrics over HTTP: the pinned names, and counters that move by exactly what was asked."""

import re

import httpx
import pytest

from tests.asking import HELLO, SCENE, about, ask, samples_of, streamed
from tests.conftest import ADAPTERS, BEARER, Server

ADAPTER_LABELS = ("base", *ADAPTERS)
SUBJECTS = ("base", *(f"adapter:{name}" for name in ADAPTERS))
PINNED = {
    "minicpm_requests_total": {"route", "adapter", "outcome"},
    "minicpm_request_duration_seconds_bucket": {"route", "adapter", "le"},
    "minicpm_queue_duration_seconds_bucket": {"adapter", "le"},
    "minicpm_preprocess_duration_seconds_bucket": {"le"},
    "minicpm_time_to_first_token_seconds_bucket": {"adapter", "le"},
    "minicpm_inter_token_latency_seconds_bucket": {"adapter", "le"},
    "minicpm_prompt_tokens_total": {"adapter"},
    "minicpm_image_tokens_total": {"adapter"},
    "minicpm_generated_tokens_total": {"adapter"},
    "minicpm_requests_running": set(),
    "minicpm_requests_waiting": set(),
    "minicpm_slots": set(),
    "minicpm_cache_usage_ratio": set(),
    "minicpm_step_duration_seconds_bucket": {"kind", "le"},
    "minicpm_step_sequences_bucket": {"kind", "le"},
    "minicpm_image_cache_lookups_total": {"result"},
    "minicpm_prefix_cache_tokens_total": {"result"},
    "minicpm_nonfinite_answers_total": set(),
    "minicpm_out_of_memory_answers_total": set(),
    "minicpm_preemptions_total": set(),
    "minicpm_engine_heartbeat_timestamp_seconds": set(),
    "minicpm_phase": {"phase"},
    "minicpm_load_duration_seconds": {"stage"},
    "minicpm_build_info": {"version", "python"},
    "minicpm_checkpoint_info": {"base", "fingerprint", "dtype", "device", "transformers", "peft", "torch"},
    "minicpm_adapter_info": {"adapter", "fingerprint", "mode"},
    "minicpm_load_warnings_total": {"source"},
    "minicpm_audit_verdict": {"subject"},
    "minicpm_audit_findings": {"subject", "check", "severity"},
    "minicpm_audit_duration_seconds": {"stage"},
    "minicpm_undertrained_tokens": {"subject"},
    "minicpm_undertrained_token_occurrences_total": {"subject", "where"},
}

ENGINE = re.compile(r"minicpm_(step|image_cache|prefix_cache)_")


def requests(outcome: str, adapter: str = "base") -> str:
    return f'minicpm_requests_total{{adapter="{adapter}",outcome="{outcome}",route="/generate"}}'


def moved(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Return by how much each counter moved; times, gauges and what the engine counts for itself aside."""
    names = [name for name in after if re.match(r"[a-z_]+_(total|count)\b", name) and not ENGINE.match(name)]
    return {name: after[name] - before.get(name, 0) for name in names if after[name] != before.get(name, 0)}


def test_names_and_labels_are_the_pinned_ones(client: httpx.Client) -> None:
    found: dict[str, set[str]] = {}
    for series in samples_of(client):
        name, _, labels = series.partition("{")
        found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    assert {name: labels for name, labels in found.items() if name in PINNED} == PINNED
    ours = {re.sub(r"_(sum|count)$", "_bucket", name) for name in found if name.startswith("minicpm_")}
    assert ours - set(PINNED) <= {"minicpm_device_memory_bytes"}  # where there is a device to ask


def test_metrics_are_prometheus_text(client: httpx.Client) -> None:
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "_created" not in response.text


def test_one_answer_moves_exactly_its_counters(client: httpx.Client) -> None:
    before = samples_of(client)
    usage = ask(client, about(SCENE, adapter="json"))["usage"]
    steps = moved(before, samples_of(client))
    assert steps == {
        requests("ok", "json"): 1,
        'minicpm_request_duration_seconds_count{adapter="json",route="/generate"}': 1,
        'minicpm_queue_duration_seconds_count{adapter="json"}': 1,
        "minicpm_preprocess_duration_seconds_count": 1,
        'minicpm_time_to_first_token_seconds_count{adapter="json"}': 1,
        'minicpm_inter_token_latency_seconds_count{adapter="json"}': usage["generated_tokens"] - 1,
        'minicpm_prompt_tokens_total{adapter="json"}': usage["prompt_tokens"],
        'minicpm_image_tokens_total{adapter="json"}': usage["image_tokens"],
        'minicpm_generated_tokens_total{adapter="json"}': usage["generated_tokens"],
    }


def test_a_repeated_picture_costs_no_vision_tower_and_says_so(client: httpx.Client) -> None:
    def counts() -> list[float]:
        samples = samples_of(client)
        names = [f'minicpm_image_cache_lookups_total{{result="{result}"}}' for result in ("hit", "miss")]
        return [samples[name] for name in [*names, 'minicpm_step_duration_seconds_count{kind="pictures"}']]

    ask(client, about(SCENE))
    before = counts()
    ask(client, about(SCENE))
    hit, miss, encoded = (later - earlier for earlier, later in zip(before, counts(), strict=True))
    assert hit >= 1
    assert miss == encoded == 0


def test_a_stream_counts_as_much_as_a_whole_answer(client: httpx.Client) -> None:
    before = samples_of(client)
    ask(client, about(SCENE))
    between = samples_of(client)
    streamed(client, about(SCENE))
    assert moved(before, between) == moved(between, samples_of(client))


@pytest.mark.parametrize(
    ("request_", "outcome", "adapter"),
    [
        ({"prompt": 5}, "client_error", "unknown"),
        ({"prompt": 5, "adapter": "json"}, "client_error", "unknown"),
        ({**HELLO, "images": ["x"]}, "client_error", "base"),
        ({**HELLO, "images": ["x"], "adapter": "json"}, "client_error", "json"),
        ({**HELLO, "adapter": "nobody"}, "client_error", "unknown"),
        ({**HELLO, "adapter": "base"}, "client_error", "unknown"),
        ({**HELLO, "adapter": "broken"}, "refused", "broken"),
    ],
)
def test_a_failure_counts_once_by_its_outcome(
    client: httpx.Client, request_: dict[str, object], outcome: str, adapter: str
) -> None:
    before = samples_of(client)
    client.post("/generate", json=request_)
    assert moved(before, samples_of(client)) == {
        requests(outcome, adapter): 1,
        f'minicpm_request_duration_seconds_count{{adapter="{adapter}",route="/generate"}}': 1,
    }


def test_a_request_that_expires_in_the_queue_counts_with_the_time_it_waited(client: httpx.Client) -> None:
    before = samples_of(client)
    client.post("/generate", json={**HELLO, "timeout_seconds": 1e-6, "stream": True})
    change = moved(before, samples_of(client))
    assert change[requests("server_error", "base")] == 1
    assert change['minicpm_queue_duration_seconds_count{adapter="base"}'] == 1
    assert change['minicpm_prompt_tokens_total{adapter="base"}'] > 0
    assert 'minicpm_generated_tokens_total{adapter="base"}' not in change


def test_no_label_takes_a_client_s_word(client: httpx.Client) -> None:
    client.post("/generate", json={**HELLO, "adapter": "made-up-name"}, headers={"x-request-id": "made-up-id"})
    client.get("/made-up-path")
    assert "made-up" not in client.get("/metrics").text


def test_gauges_tell_the_phase_and_every_verdict(client: httpx.Client) -> None:
    samples = samples_of(client)
    assert samples['minicpm_phase{phase="ready"}'] == 1
    assert sum(value for name, value in samples.items() if name.startswith("minicpm_phase{")) == 1
    for subject in SUBJECTS:
        assert samples[f'minicpm_audit_verdict{{subject="{subject}"}}'] == (subject != "adapter:broken")
    assert samples['minicpm_undertrained_tokens{subject="adapter:broken"}'] == 6
    assert samples["minicpm_requests_running"] == 0
    for adapter in (*ADAPTER_LABELS, "unknown"):
        assert requests("overloaded", adapter) in samples


def test_undertrained_tokens_in_traffic_are_counted_and_named(guarded: Server) -> None:
    series = 'minicpm_undertrained_token_occurrences_total{subject="adapter:broken",where="prompt"}'
    with guarded.connect(headers=BEARER) as client:
        before = samples_of(client)[series]
        got = ask(client, {"prompt": "a <fig> and <fig> and <col>", "adapter": "broken", "max_new_tokens": 4})
        told = {one["token"]: one["count"] for one in got["token_health"]["undertrained_prompt_tokens"]}
        assert told == {"<fig>": 2, "<col>": 1}
        assert samples_of(client)[series] == before + 3
        exposure = client.get("/health/tokenizer", params={"adapter": "broken"}).json()["exposure"]
        assert exposure["prompt"] == {"<fig>": 2, "<col>": 1}
        quiet = ask(client, {**HELLO, "adapter": "broken", "max_new_tokens": 4})
        assert quiet["token_health"]["undertrained_prompt_tokens"] == []


def test_the_log_has_one_line_a_request_and_no_prompt(server: Server) -> None:
    headers = {"x-request-id": "logged-once"}
    server.client.post("/generate", json={"prompt": "the words of a client"}, headers=headers)
    lines = [line for line in server.events("request") if line["request_id"] == "logged-once"]
    assert [(line["status"], line["outcome"], line["path"]) for line in lines] == [(200, "ok", "/generate")]
    assert lines[0]["generated_tokens"] > 0
    assert "the words of a client" not in server.log.read_text()
    assert "iVBOR" not in server.log.read_text()
