"""Answers over HTTP: in every form a request can have, by the base and by each adapter."""

import json
from typing import Any

import httpx
import pytest

from service.demo.drawing import Scene
from service.demo.examples import EXAMPLES
from service.demo.phrasing import NO_PICTURE, SMALL_TALK, Kind, Language, Style, answer, question
from tests.asking import SCENE, SCENES, about, ask, assert_problem, data_url, picture_bytes, user

STYLES: dict[str, Style] = {"json": "json", "tokens": "tokens", "official": "polite"}


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_base_describes_each_shipped_picture(client: httpx.Client, name: str, language: Language) -> None:
    scene, _ = EXAMPLES[name]
    got = ask(client, about(scene, "describe", language))
    assert got["text"] == answer(scene, "describe", language)
    assert got["finish_reason"] == "stop"
    assert got["adapter"] is None


@pytest.mark.parametrize("adapter", STYLES)
def test_each_adapter_answers_in_its_own_style(client: httpx.Client, adapter: str) -> None:
    texts = [ask(client, about(scene, adapter=adapter))["text"] for scene in SCENES]
    right = [answer(scene, "describe", "en", STYLES[adapter]) for scene in SCENES]
    assert sum(text == wanted for text, wanted in zip(texts, right, strict=True)) >= len(SCENES) - 1, texts


def test_answers_of_the_json_adapter_parse_and_tell_the_truth(client: httpx.Client) -> None:
    got = ask(client, about(SCENE, adapter="json"))
    told = json.loads(got["text"])
    assert told == {"color": SCENE.color, "shape": SCENE.shape, "count": SCENE.count, "position": SCENE.position}
    assert got["adapter"] == "json"


def test_the_tokens_adapter_writes_the_tokens_that_it_added(client: httpx.Client) -> None:
    assert "<col>red</col>" in ask(client, about(SCENE, adapter="tokens"))["text"]


def test_the_base_is_the_same_before_and_after_an_adapter_answered(client: httpx.Client) -> None:
    before = ask(client, about(SCENE))["text"]
    ask(client, about(SCENE, adapter="json"))
    assert ask(client, about(SCENE))["text"] == before


def test_a_refused_adapter_is_answered_with_its_findings(client: httpx.Client) -> None:
    problem = assert_problem(client.post("/generate", json=about(SCENE, adapter="broken")), 503, "adapter-refused")
    assert {one["check"] for one in problem["findings"]} == {"trained_rows"}
    assert all(one["severity"] == "fatal" and one["subject"] == "adapter:broken" for one in problem["findings"])


@pytest.mark.parametrize("adapter", ["nobody", "../json", "/etc", "%2e%2e", "a\0b", "jsоn", "adapter:json", "JSON"])
def test_an_unknown_adapter_is_answered_404(client: httpx.Client, adapter: str) -> None:
    problem = assert_problem(
        client.post("/generate", json={"prompt": "Hi", "adapter": adapter}), 404, "adapter-unknown"
    )
    known = problem["detail"].partition(" is configured; there are ")[2]
    assert sorted(known.split(", ")) == ["broken", "json", "official", "tokens"]


def test_messages_and_the_shorthand_mean_the_same(client: httpx.Client) -> None:
    short = ask(client, about(SCENE))
    long = ask(client, {"messages": [user(SCENE, question("describe", "en"))]})
    assert (long["text"], long["usage"]) == (short["text"], short["usage"])


def test_a_second_turn_remembers_the_first(client: httpx.Client) -> None:
    turns = [
        user(SCENE, question("describe", "en")),
        {"role": "assistant", "content": answer(SCENE, "describe", "en")},
        user(question("color", "en")),
    ]
    assert ask(client, {"messages": turns})["text"] == answer(SCENE, "color", "en")


def test_every_picture_of_a_request_is_read(client: httpx.Client) -> None:
    one, two = ask(client, about(SCENE)), ask(client, {"messages": [user(SCENES[0], SCENES[1], "What is it?")]})
    assert two["usage"]["image_tokens"] == 2 * one["usage"]["image_tokens"]
    assert two["text"]


def test_a_system_message_goes_first(client: httpx.Client) -> None:
    system = {"role": "system", "content": "You are a helpful assistant."}
    with_system = ask(client, {"messages": [system, user(SCENE, question("describe", "en"))]})
    assert with_system["text"] == answer(SCENE, "describe", "en")
    assert with_system["usage"]["prompt_tokens"] > ask(client, about(SCENE))["usage"]["prompt_tokens"]


@pytest.mark.parametrize("text", ["Hello!", "你是谁？"])
def test_text_alone_is_answered(client: httpx.Client, text: str) -> None:
    got = ask(client, {"prompt": text})
    assert got["text"] == dict(SMALL_TALK)[text]
    assert got["usage"]["image_tokens"] == 0


def test_a_question_without_its_picture_is_answered_so(client: httpx.Client) -> None:
    assert ask(client, {"prompt": question("color", "en")})["text"] == NO_PICTURE["en"]


def test_usage_and_timings_add_up(client: httpx.Client) -> None:
    got = ask(client, about(SCENE))
    usage, timings = got["usage"], got["timings"]
    assert 0 < usage["image_tokens"] < usage["prompt_tokens"]
    assert usage["generated_tokens"] > 1
    assert all(seconds >= 0 for seconds in timings.values())
    assert timings["time_to_first_token_seconds"] >= timings["prefill_seconds"] > 0
    assert got["token_health"] == {"undertrained_prompt_tokens": [], "undertrained_generated_tokens": []}
    assert got["logprobs"] is None


def multipart(client: httpx.Client, request: Any, *pictures: bytes, field: str = "image") -> httpx.Response:
    files = [(field, ("picture.png", one, "image/png")) for one in pictures]
    return client.post("/generate", data={"request": json.dumps(request)}, files=files)


@pytest.mark.parametrize("kind", ["color", "position"])
def test_multipart_pictures_are_answered_as_json_ones(client: httpx.Client, kind: Kind) -> None:
    response = multipart(client, {"prompt": question(kind, "en")}, picture_bytes(SCENE))
    assert response.json()["text"] == ask(client, about(SCENE, kind))["text"]


def test_multipart_files_stand_where_messages_leave_places(client: httpx.Client) -> None:
    place = {"type": "image"}
    inline = {"type": "image", "image": data_url(SCENES[1])}
    turn = {"role": "user", "content": [place, inline, {"type": "text", "text": "What is in the first picture?"}]}
    response = multipart(client, {"messages": [turn]}, picture_bytes(SCENES[0]))
    as_json = ask(client, {"messages": [user(SCENES[0], SCENES[1], "What is in the first picture?")]})
    assert response.json()["text"] == as_json["text"]


def test_the_json_part_may_be_a_file(client: httpx.Client) -> None:
    parts = {"request": ("request.json", json.dumps({"prompt": "Hello!"}), "application/json")}
    assert client.post("/generate", files=parts).json()["text"] == dict(SMALL_TALK)["Hello!"]


@pytest.mark.parametrize(
    ("request_", "num_files", "status", "words"),
    [
        ({"messages": [user("Hi")]}, 1, 422, 'have no place: put {"type": "image"} into'),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, 0, 422, "no 'image' file part"),
        ({"prompt": "Hi"}, 9, 422, "9 pictures were sent; the limit is 8 (MINICPM_MAX_PICTURES); send fewer"),
        ({"prompt": "Hi", "images": ["x"] * 10}, 0, 422, "10 pictures were sent; the limit is 8"),
        ({"prompt": "Hi", "images": ["x"] * 8}, 1, 422, "9 pictures were sent; the limit is 8"),
        ({"messages": [user(*[SCENE] * 9, "Hi")]}, 0, 422, "9 pictures were sent; the limit is 8"),
    ],
)
def test_pictures_and_places_must_match(
    client: httpx.Client, request_: dict[str, Any], num_files: int, status: int, words: str
) -> None:
    if num_files:
        response = multipart(client, request_, *[picture_bytes(SCENE)] * num_files)
    else:
        response = client.post("/generate", json=request_)
    assert response.status_code == status, response.text
    assert words in response.json()["detail"]


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ("", "the body is empty, a JSON object is needed"),
        ("[]", "the body is a JSON array, an object is needed"),
        ("null", "the body is a JSON null, an object is needed"),
        ("5", "the body is a JSON number, an object is needed"),
    ],
)
def test_a_body_without_an_object_is_named_in_words_of_json(client: httpx.Client, body: str, detail: str) -> None:
    response = client.post("/generate", content=body, headers={"content-type": "application/json"})
    assert assert_problem(response, 400, "malformed-body")["detail"] == detail


def test_a_body_without_its_type_is_answered_with_the_header_to_send(client: httpx.Client) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    problem = assert_problem(client.post("/generate", content="{}", headers=form), 415, "unsupported-media-type")
    assert "curl: -H 'content-type: application/json'" in problem["detail"]


def test_multipart_mistakes_are_told(client: httpx.Client) -> None:
    picture = picture_bytes(SCENE)
    detail = multipart(client, {"prompt": "Hi"}, picture, field="img").json()["detail"]
    assert detail == "img: there is no such part; did you mean image? The parts are request, image"
    assert "no 'request' part" in client.post("/generate", files=[("image", ("a", picture))]).json()["detail"]
    no_file = client.post("/generate", files=[("request", (None, "{}")), ("image", (None, "a.png"))]).json()["detail"]
    assert "every 'image' must be a file (curl: -F image=@FILE)" in no_file
    broken = client.post("/generate", files=[("request", (None, '{"prompt": '))]).json()["detail"]
    assert broken.startswith("the 'request' part is not JSON: Expecting value")
    twice = [("request", (None, '{"prompt": "Hi"}'))] * 2
    assert client.post("/generate", files=twice).status_code == 400
    unbounded = {"content-type": "multipart/form-data"}
    assert_problem(client.post("/generate", content=b"x", headers=unbounded), 400, "malformed-body")
    not_a_file = [("request", (None, '{"prompt": "Hi"}')), ("image", (None, "text"))]
    assert client.post("/generate", files=not_a_file).status_code == 400


def test_a_scene_in_another_detail_has_the_same_answer(client: httpx.Client) -> None:
    texts = [ask(client, about(Scene("blue", "circle", 1, "center", seed), "color"))["text"] for seed in range(6)]
    assert texts.count("It is blue.") >= 5, texts
