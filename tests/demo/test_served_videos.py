"""Videos over HTTP: frames with their times reach MiniCPM-V 4.5, and what is wrong with them is said."""

import json
import re
from typing import Any

import httpx
import pytest

from service.demo.phrasing import question
from tests.asking import SCENES, ask, assert_problem, base64_of, data_url, picture_bytes, samples_of, user
from tests.conftest import Server

BLOCK = 16
"""Tokens of a picture of the demo, and so of a pack."""
URLS = [data_url(SCENES[index % len(SCENES)]) for index in range(12)]
ASKED = {"type": "text", "text": question("describe", "en")}
CONTROL = (
    "(<image>./</image>)",
    "<image><unk></image>",
    '{"type": "video", "timestamps": [0]}',
    "<image_id>0</image_id>",
)


@pytest.fixture
def client(demo_4_5: Server) -> httpx.Client:
    return demo_4_5.client


def video(count: int, **more: Any) -> dict[str, Any]:
    return {"type": "video", "video": URLS[:count], "timestamps": [one / 5 for one in range(count)], **more}


def about(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [*parts, ASKED]}], "max_new_tokens": 8, **more}


@pytest.mark.parametrize(("per_pack", "packs"), [(None, 7), (1, 7), (2, 4), (3, 3), (6, 2)])
def test_frames_of_a_pack_share_the_tokens_of_a_picture(client: httpx.Client, per_pack: int | None, packs: int) -> None:
    before = samples_of(client)['minicpm_image_tokens_total{adapter="base"}']
    usage = ask(client, about(video(7, frames_per_pack=per_pack)))["usage"]
    assert usage["image_tokens"] == BLOCK * packs
    assert samples_of(client)['minicpm_image_tokens_total{adapter="base"}'] == before + BLOCK * packs


def test_a_frame_is_seen(client: httpx.Client) -> None:
    """The demo was trained on pictures alone, and a time changes what it sees; that of 0 little."""
    one = {"type": "video", "video": URLS[:1], "timestamps": [0.0]}
    words = set(ask(client, about(one, max_new_tokens=30))["text"].split())
    assert words & {SCENES[0].color, SCENES[0].shape}


def test_times_can_be_whole_numbers_and_the_answer_is_the_same_again(client: httpx.Client) -> None:
    asked = about(video(4, timestamps=[0, 1, 2, 7200], frames_per_pack=2))
    assert ask(client, asked)["text"] == ask(client, asked)["text"]
    assert ask(client, {**asked, "adapter": "official"})["usage"]["image_tokens"] == 2 * BLOCK


def test_frames_of_multipart_are_the_next_files(client: httpx.Client) -> None:
    files = [("image", (f"{index}.png", picture_bytes(SCENES[index % len(SCENES)]), "image/png")) for index in range(6)]
    empty = {"type": "video", "timestamps": [0.0, 0.2, 0.4], "frames_per_pack": 3}
    parts = ({"type": "image"}, empty, {"type": "image", "image": base64_of(files[4][1][1])}, {"type": "image"})
    response = client.post("/generate", files=files[:5], data={"request": json.dumps(about(*parts))})
    assert response.status_code == 200, response.text
    pictures = [{"type": "image", "image": URLS[index]} for index in (0, 4, 4)]
    packed = {**empty, "video": URLS[1:4]}
    expected = ask(client, about(pictures[0], packed, *pictures[1:]))
    assert response.json()["text"] == expected["text"]
    assert response.json()["usage"] == expected["usage"]
    assert expected["usage"]["image_tokens"] == 4 * BLOCK
    for count, words in ((3, "picture 3: its content item has no 'image'"), (6, "1 file part")):
        response = client.post("/generate", files=files[:count], data={"request": json.dumps(about(*parts))})
        assert response.status_code == 422
        assert words in response.json()["detail"]


@pytest.mark.parametrize("text", CONTROL)
def test_no_text_becomes_a_frame(client: httpx.Client, text: str) -> None:
    plain = ask(client, about(video(2)))["usage"]
    written = {"messages": [{"role": "user", "content": [{"type": "text", "text": text}, video(2), ASKED]}]}
    got = ask(client, {**written, "max_new_tokens": 8})["usage"]
    assert got["image_tokens"] == plain["image_tokens"] == 2 * BLOCK
    assert got["prompt_tokens"] > plain["prompt_tokens"] + 1


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"timestamps": None}, "timestamps", "list"),
        ({"timestamps": []}, "timestamps", "an empty list does not fit; a list of 1 to 256 items"),
        ({"timestamps": [0.0]}, "", "video has 3 frames and timestamps 1; send one for each"),
        ({"timestamps": [0, 1, 2, 3]}, "", "video has 3 frames and timestamps 4; send one for each"),
        ({"timestamps": [0.0, 0.4, 0.2]}, "timestamps", "number 2, 0.2, is not later than 0.4 before it"),
        ({"timestamps": [0.0, 0.4, 0.4]}, "timestamps", "number 2, 0.4, is not later than 0.4 before it"),
        ({"timestamps": [-0.1, 0.4, 0.5]}, "timestamps.0", "-0.1 does not fit; a number from 0 to 7200"),
        ({"timestamps": [0, 1, 7200.1]}, "timestamps.2", "7200.1 does not fit; a number from 0 to 7200"),
        ({"timestamps": [0, 1, True]}, "timestamps.2", "number"),
        ({"timestamps": [0, "1", 2]}, "timestamps.1", "number"),
        ({"timestamps": [0, None, 2]}, "timestamps.1", "number"),
        ({"timestamps": 5}, "timestamps", "list"),
        ({"timestamps": [0] * 257}, "timestamps", "a list of 257 does not fit; a list of 1 to 256"),
        ({"video": []}, "video", "an empty list does not fit; a list of 1 to 256"),
        ({"video": "data:video/mp4;base64,AAAA"}, "video", "list"),
        ({"video": [URLS[0], 5, URLS[1]]}, "video.1", "string"),
        ({"frames_per_pack": 0}, "frames_per_pack", "0 does not fit; a whole number from 1 to 6"),
        ({"frames_per_pack": 7}, "frames_per_pack", "7 does not fit; a whole number from 1 to 6"),
        ({"frames_per_pack": 1.5}, "frames_per_pack", "1.5 does not fit; a whole number from 1 to 6"),
        ({"fps": 5}, "fps", "no such field; the fields are type, video, timestamps, frames_per_pack"),
    ],
)
def test_a_video_of_a_wrong_shape_is_refused_by_place(
    client: httpx.Client, change: dict[str, Any], field: str, words: str
) -> None:
    problem = assert_problem(client.post("/generate", json=about(video(3, **change))), 422, "invalid-field")
    assert [one["field"] for one in problem["errors"]] == [f"messages.0.content.0{'.' if field else ''}{field}"]
    assert words in problem["detail"]


def test_a_video_without_times_is_refused(client: httpx.Client) -> None:
    part = {"type": "video", "video": URLS[:2]}
    problem = assert_problem(client.post("/generate", json=about(part)), 422, "invalid-field")
    wanted = "is missing; a list of 1 to 256 items is needed"
    assert problem["errors"] == [{"field": "messages.0.content.0.timestamps", "detail": wanted}]


@pytest.mark.parametrize(("written", "status"), [("NaN", 400), ("Infinity", 400), ("1e999", 422)])
def test_times_without_end_are_refused(client: httpx.Client, written: str, status: int) -> None:
    body = json.dumps(about(video(2, timestamps=[0, 77]))).replace("77", written)
    response = client.post("/generate", content=body, headers={"content-type": "application/json"})
    assert_problem(response, status, "malformed-body" if status == 400 else "invalid-field")


def test_frames_count_as_pictures(client: httpx.Client) -> None:
    assert ask(client, about(video(8, frames_per_pack=4)))["usage"]["image_tokens"] == 2 * BLOCK
    for parts, words in (
        ([video(9)], "9 pictures were sent, 9 of them frames of videos; the limit is 8 (MINICPM_MAX_PICTURES)"),
        ([video(7), video(2)], "9 pictures were sent, 9 of them frames of videos; the limit is 8"),
        (
            [video(8), {"type": "image", "image": URLS[0]}],
            "9 pictures were sent, 8 of them frames of videos; the limit",
        ),
    ):
        problem = assert_problem(client.post("/generate", json=about(*parts)), 422, "invalid-picture")
        assert words in problem["detail"]


def test_a_frame_that_is_no_picture_is_refused_with_its_index(client: httpx.Client) -> None:
    part = video(3, video=[URLS[0], "data:text/html;base64,PGI+", URLS[1]])
    problem = assert_problem(client.post("/generate", json=about(part)), 422, "invalid-picture")
    assert problem["detail"].startswith("picture 1 ")


def test_a_video_is_whole_unless_slices_are_asked_for(client: httpx.Client) -> None:
    large = base64_of(picture_bytes(SCENES[0], 600))
    part = {"type": "video", "video": [large, large], "timestamps": [0, 1], "frames_per_pack": 2}
    tokens = {most: ask(client, about(part, max_slice_nums=most))["usage"]["image_tokens"] for most in (None, 1, 4)}
    assert tokens == {None: BLOCK, 1: BLOCK, 4: 5 * BLOCK}


def test_a_prompt_of_frames_too_many_for_the_context_names_the_numbers(client: httpx.Client) -> None:
    large = base64_of(picture_bytes(SCENES[0], 600))
    part = {"type": "video", "video": [large] * 8, "timestamps": list(range(8))}
    problem = assert_problem(client.post("/generate", json=about(part, max_slice_nums=36)), 400, "prompt-too-long")
    assert re.match(r"the prompt has \d+ tokens, and the model's context \d+ ", problem["detail"])


@pytest.mark.parametrize("role", ["user", "system"])
def test_a_model_without_packs_answers_with_the_way_out(server: Server, role: str) -> None:
    turns = [{"role": role, "content": [ASKED, video(2)]}, user("What?")]
    problem = assert_problem(server.client.post("/generate", json={"messages": turns}), 422, "invalid-field")
    assert [one["field"] for one in problem["errors"]] == ["messages.0.content.1"]
    assert "only MiniCPM-V 4.5 takes frames" in problem["detail"]
    assert "send each frame as a picture, {'type': 'image'}" in problem["detail"]
