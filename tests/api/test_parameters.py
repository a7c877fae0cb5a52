"""Every field at and over its edges, and bodies made to hurt: refused in few words, and the next request is served."""

import json
from typing import Any

import httpx
import pytest

from service.api.schemas import GenerateRequest
from tests.asking import HELLO, SCENE, about, ask, assert_problem, user

OVER: dict[str, list[float]] = {
    "max_new_tokens": [0, -1, 2049, 2**31, 2**63, 2**200],
    "temperature": [-0.001, 5.001, 2**31, 2**63],
    "top_p": [0, -0.1, 1.001, 2**31, 2**63],
    "top_k": [-1, 1_000_001, 2**31, 2**63],
    "min_p": [-0.001, 1.001, 2**31, 2**63],
    "repetition_penalty": [0, 0.099, 10.001, 2**31, 2**63],
    "presence_penalty": [-2.001, 2.001, 2**31, 2**63],
    "frequency_penalty": [-2.001, 2.001, 2**31, 2**63],
    "min_new_tokens": [-1, 513, 2**31, 2**63, 2**200],
    "seed": [-1, 2**63, 2**64],
    "max_slice_nums": [0, -1, 37, 2**31, 2**63, 2**200],
    "timeout_seconds": [0, -1, 3600.001, 2**31, 2**63],
}
EDGES: dict[str, list[float]] = {
    "max_new_tokens": [1, 1900],
    "temperature": [0, 5],
    "top_p": [1e-9, 1],
    "top_k": [0, 1, 1_000_000],
    "min_p": [0, 1e-9, 1],
    "repetition_penalty": [0.1, 10],
    "presence_penalty": [-2, 0, 2],
    "frequency_penalty": [-2, 0, 2],
    "min_new_tokens": [0, 1, 8],
    "seed": [0, 2**31, 2**63 - 1],
    "max_slice_nums": [1, 36],
    "timeout_seconds": [3600],
}
WHOLE = ("max_new_tokens", "min_new_tokens", "top_k", "seed", "max_slice_nums")
MAY_BE_NULL = ("max_new_tokens", "seed", "max_slice_nums", "timeout_seconds")
SHORT = {**HELLO, "max_new_tokens": 8}


@pytest.fixture(autouse=True)
def _then_a_good_request_is_served(client: httpx.Client) -> Any:
    yield
    assert ask(client, SHORT)["text"]


def post(client: httpx.Client, body: str | bytes) -> httpx.Response:
    return client.post("/generate", content=body, headers={"content-type": "application/json"})


@pytest.mark.parametrize("field", OVER)
def test_a_number_out_of_range_is_refused_by_name(client: httpx.Client, field: str) -> None:
    for value in OVER[field]:
        problem = assert_problem(client.post("/generate", json={**HELLO, field: value}), 422, "invalid-field")
        assert [one["field"] for one in problem["errors"]] == [field], value


@pytest.mark.parametrize("field", EDGES)
def test_a_number_at_its_edge_is_taken(client: httpx.Client, field: str) -> None:
    for value in EDGES[field]:
        ask(client, {**SHORT, field: value})


@pytest.mark.parametrize("field", OVER)
def test_what_is_no_number_is_refused(client: httpx.Client, field: str) -> None:
    wrong: list[Any] = ["1", True, [], {}, [1], *([1.5] if field in WHOLE else [])]
    wrong += [] if field in MAY_BE_NULL else [None]
    for value in wrong:
        problem = assert_problem(client.post("/generate", json={**HELLO, field: value}), 422, "invalid-field")
        assert [one["field"] for one in problem["errors"]] == [field], value
    for constant in ("NaN", "Infinity", "-Infinity"):
        problem = assert_problem(post(client, f'{{"prompt": "Hi", "{field}": {constant}}}'), 400, "malformed-body")
        assert constant.removeprefix("-") in problem["detail"]
    assert post(client, f'{{"prompt": "Hi", "{field}": 1e999}}').status_code == 422
    if field in MAY_BE_NULL:
        ask(client, {**HELLO, field: None})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"min_new_tokens": 9, "max_new_tokens": 8}, "9 is more than max_new_tokens, which is 8"),
        ({"min_new_tokens": 513}, "513 is more than max_new_tokens, which is 512 by default"),
        ({"min_new_tokens": 513, "max_new_tokens": None}, "513 is more than max_new_tokens, which is 512 by default"),
    ],
)
def test_a_shortest_answer_longer_than_the_longest_is_refused_with_both_numbers(
    client: httpx.Client, fields: dict[str, Any], words: str
) -> None:
    problem = assert_problem(client.post("/generate", json={**HELLO, **fields}), 422, "invalid-field")
    assert problem["errors"] == [{"field": "min_new_tokens", "detail": words}]


@pytest.mark.parametrize("field", ["stream", "logprobs"])
def test_switches_are_true_or_false(client: httpx.Client, field: str) -> None:
    for value in (0, 1, "true", None, []):
        problem = assert_problem(client.post("/generate", json={**HELLO, field: value}), 422, "invalid-field")
        assert [one["field"] for one in problem["errors"]] == [field], value


def test_a_switch_that_may_be_left_out_may_be_null(client: httpx.Client) -> None:
    for value in (0, 1, "true", []):
        problem = assert_problem(
            client.post("/generate", json={**HELLO, "enable_thinking": value}), 422, "invalid-field"
        )
        assert [one["field"] for one in problem["errors"]] == ["enable_thinking"]
    for value in (None, True, False):
        ask(client, {**SHORT, "enable_thinking": value})


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"prompt": 5}, "prompt"),
        ({"prompt": None}, "body"),
        ({"messages": [user("Hi")]}, "body"),
        ({"prompt": None, "messages": []}, "messages"),
        ({"prompt": None, "messages": [{"role": "user", "content": []}]}, "messages.0.content"),
        ({"prompt": None, "messages": [{"role": "user", "content": 7}]}, "messages.0.content"),
        ({"prompt": None, "messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        ({"prompt": None, "messages": [{"role": "user"}]}, "messages.0.content"),
        ({"prompt": None, "messages": [{"role": "user", "content": [{"type": "audio"}]}]}, "messages.0.content.0"),
        ({"prompt": None, "messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages.0.content.0"),
        ({"prompt": None, "messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content.0.text"),
        ({"prompt": None, "messages": [user("a"), {"role": "assistant", "content": "b"}]}, "body"),
        ({"prompt": None, "messages": [user("a"), {"role": "system", "content": "b"}, user("c")]}, "body"),
        ({"images": "x"}, "images"),
        ({"images": [5]}, "images.0"),
        ({"adapter": ""}, "adapter"),
        ({"adapter": "a" * 65}, "adapter"),
        ({"adapter": 1}, "adapter"),
        ({"stop": "x"}, "stop"),
        ({"stop": [""]}, "stop.0"),
        ({"stop": ["x" * 201]}, "stop.0"),
        ({"stop": ["x"] * 10_000}, "stop"),
        ({"stop": [None]}, "stop.0"),
    ],
)
def test_a_wrong_shape_is_refused_by_place(client: httpx.Client, change: dict[str, Any], field: str) -> None:
    problem = assert_problem(client.post("/generate", json={**HELLO, **change}), 422, "invalid-field")
    assert [one["field"] for one in problem["errors"]] == [field]


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({**HELLO, "max_slice_nums": 0}, "max_slice_nums: 0 does not fit; a whole number from 1 to 36 is needed"),
        ({**HELLO, "max_slice_nums": 37}, "max_slice_nums: 37 does not fit; a whole number from 1 to 36 is needed"),
        (
            {**HELLO, "max_slice_nums": "many"},
            'max_slice_nums: "many" does not fit; a whole number from 1 to 36 is needed',
        ),
        ({**HELLO, "top_p": 0}, "top_p: 0 does not fit; a number over 0 and at most 1 is needed"),
        ({**HELLO, "stream": "true"}, 'stream: "true" does not fit; true or false is needed'),
        ({**HELLO, "stop": ["a"] * 17}, "stop: a list of 17 does not fit; a list of at most 16 items is needed"),
        (
            {**HELLO, "adapter": "a" * 65},
            f'adapter: "{"a" * 65}" does not fit; a string of 1 to 64 characters is needed',
        ),
        ({}, "body: neither messages nor prompt was sent; send one of them"),
        ({**HELLO, "messages": [user("Hi")]}, "body: both messages and prompt were sent; send one of them"),
        (
            {"messages": [{"role": "tool", "content": "x"}]},
            'messages.0.role: "tool" does not fit; "system", "user" or "assistant" is needed',
        ),
        (
            {"messages": [{"role": "user", "content": 7}]},
            "messages.0.content: 7 does not fit; a string or a list of 1 to 256 items is needed",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "audio"}]}]},
            'messages.0.content.0: type "audio" does not fit; "image", "text" or "video" is needed',
        ),
        (
            {"messages": [{"role": "user", "content": [{"text": "x"}]}]},
            'messages.0.content.0: type is missing; "image", "text" or "video" is needed',
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages.0.content.0.text: is missing; a string is needed",
        ),
        (
            {"messages": [user("a"), {"role": "assistant", "content": "b"}]},
            "body: the last message is the assistant's; it must be the user's",
        ),
    ],
    ids=str,
)
def test_a_refusal_names_the_field_what_was_sent_and_what_is_needed(
    client: httpx.Client, body: dict[str, Any], detail: str
) -> None:
    problem = assert_problem(client.post("/generate", json=body), 422, "invalid-field")
    assert problem["detail"] == detail
    (told,) = problem["errors"]
    assert detail == f"{told['field']}: {told['detail']}"


def test_an_unknown_field_is_told_with_the_one_that_was_meant_and_all_there_are(client: httpx.Client) -> None:
    body = {**HELLO, "adaptor": "official", "zzz": 1}
    problem = assert_problem(client.post("/generate", json=body), 422, "invalid-field")
    first, second = (one["detail"] for one in problem["errors"])
    fields = ", ".join(GenerateRequest.model_fields)
    assert first == f"there is no such field; did you mean adapter? The fields are {fields}"
    assert second == "there is no such field"
    turn = {"role": "user", "content": [{"type": "text", "txt": "Hi", "text": "Hi"}]}
    problem = assert_problem(client.post("/generate", json={"messages": [turn]}), 422, "invalid-field")
    assert problem["errors"][0]["detail"] == "there is no such field; did you mean text? The fields are type, text"


def test_unknown_fields_are_named(client: httpx.Client) -> None:
    problem = assert_problem(client.post("/generate", json={**HELLO, "max_tokens": 5, "n": 2}), 422, "invalid-field")
    assert {one["field"] for one in problem["errors"]} == {"max_tokens", "n"}
    turn = {**user("Hi"), "name": "me"}
    problem = assert_problem(client.post("/generate", json={"messages": [turn]}), 422, "invalid-field")
    assert [one["field"] for one in problem["errors"]] == ["messages.0.name"]


def test_a_prompt_longer_than_the_context_is_refused_with_the_numbers(client: httpx.Client) -> None:
    problem = assert_problem(client.post("/generate", json={"prompt": "red " * 3000}), 400, "prompt-too-long")
    assert "2048" in problem["detail"]
    too_much = {**about(SCENE), "max_new_tokens": 2040}
    assert_problem(client.post("/generate", json=too_much), 400, "prompt-too-long")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"\xff\xfe\xfd",
        b'{"prompt": "\xff"}',
        b'{"prompt": "Hi",}',
        b"{'prompt': 'Hi'}",
        b'{"prompt": "Hi"} {"prompt": "Hi"}',
        b'{"prompt": "line\nbreak"}',
        b'{"prompt": "Hi", "prompt": "Hi"}',
        b'{"messages": [{"role": "user", "role": "system", "content": "Hi"}]}',
        b'{"seed": ' + b"9" * 5000 + b"}",
        b'{"prompt": ' + b"[" * 100_000,
        b'{"prompt": ' + b'{"a":' * 100_000,
        b'{"stop": [' + b'"x",' * 1_500_000 + b'"x"]}',
        b"{" + b",".join(b'"%d":1' % one for one in range(100_000)) + b"}",
        b"{" + b'"a":1,' * 100_000 + b'"a":1}',
    ],
    ids=lambda body: f"{body[:24]!r}-{len(body)}",
)
def test_what_is_not_our_json_is_refused_in_few_words(client: httpx.Client, body: bytes) -> None:
    assert_problem(post(client, body), 400, "malformed-body")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"prompt": "half \\ud83d"}', "prompt"),
        ('{"prompt": "Hi", "stop": ["\\udc00"]}', "stop.0"),
        ('{"prompt": "Hi", "adapter": "\\ud800"}', "adapter"),
        ('{"prompt": "Hi", "\\ud800": 1}', "body"),
        ('{"messages": [{"role": "\\ud800", "content": "Hi"}]}', "messages.0.role"),
        (
            '{"messages": [{"role": "user", "content": [{"type": "text", "text": "\\ud800"}]}]}',
            "messages.0.content.0.text",
        ),
    ],
)
def test_half_a_surrogate_pair_is_refused_where_it_stands(client: httpx.Client, body: str, words: str) -> None:
    problem = assert_problem(post(client, body), 422, "invalid-field")
    assert [one["field"] for one in problem["errors"]] == [words]


def test_a_repeated_key_of_half_a_pair_is_still_rendered(client: httpx.Client) -> None:
    assert_problem(post(client, '{"\\ud800": 1, "\\ud800": 2}'), 400, "malformed-body")
    assert_problem(post(client, '{"prompt": "Hi", "images": ["\\ud800"]}'), 422, "invalid-picture")


@pytest.mark.parametrize(
    "body",
    [
        {"Z" * 100_000: 1},
        {**HELLO, **{f"{'Z' * 500}{index}": 1 for index in range(60)}},
        {**HELLO, "adapter": "Z" * 100_000},
        {**HELLO, "images": ["Z:" * 100_000]},
        {**HELLO, "images": ["data:Z" + "Z" * 100_000 + ";base64,"]},
        {**HELLO, "stop": ["Z" * 100_000] * 16},
        {"messages": [{"role": "Z" * 100_000, "content": "Hi"}]},
        {"messages": [{"role": "user", "content": [{"type": "Z" * 100_000}]}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi", "Z" * 9000: 1}] * 256}] * 5},
        {"messages": [{"role": "user", "content": [{"type": "image", "image": "Z:/" * 5000}]}]},
    ],
    ids=lambda body: json.dumps(body)[:40],
)
def test_an_error_repeats_no_more_than_200_characters(client: httpx.Client, body: dict[str, Any]) -> None:
    response = client.post("/generate", json=body)
    assert response.status_code == 422
    assert len(response.content) < 4096
    assert response.text.count("Z") <= 200


@pytest.mark.parametrize("num_messages", [257, 100_000])
def test_more_messages_than_256_are_refused(client: httpx.Client, num_messages: int) -> None:
    response = client.post("/generate", json={"messages": [{"role": "user", "content": "a"}] * num_messages})
    problem = assert_problem(response, 422, "invalid-field")
    assert [one["field"] for one in problem["errors"]] == ["messages"]
    assert "256" in problem["detail"]
