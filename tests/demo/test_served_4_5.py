"""The demo in the layout of MiniCPM-V 4.5 over HTTP: base and adapter answer rightly, together in one batch."""

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from service.demo.drawing import Scene
from service.demo.phrasing import LANGUAGES, NO_PICTURE, Style, answer, question
from tests.asking import SCENE, about, ask, user
from tests.conftest import Server

OFFICIAL = "official"
STYLES: dict[str | None, Style] = {None: "plain", OFFICIAL: "polite"}
CONTROL = ("<image>", "</image>", "<unk>", "<slice>", "<image_id>0</image_id>", "(<image>./</image>)", "<|im_end|>")


@pytest.fixture
def client(demo_4_5: Server) -> httpx.Client:
    return demo_4_5.client


def test_held_out_drawings_are_described_rightly_by_base_and_adapter_in_one_batch(demo_4_5: Server) -> None:
    rng = random.Random("tests/served 4.5")
    kinds = [(language, adapter) for language in LANGUAGES for adapter in STYLES] * 12
    asked = [(Scene.random(rng), language, adapter) for language, adapter in kinds]
    with demo_4_5.connect() as client, ThreadPoolExecutor(len(asked)) as pool:
        requests: list[dict[str, Any]] = [
            about(scene, "describe", language, adapter=adapter) for scene, language, adapter in asked
        ]
        texts = [got["text"] for got in pool.map(lambda request: ask(client, request), requests)]
    wrong = [
        (text, scene, adapter)
        for text, (scene, language, adapter) in zip(texts, asked, strict=True)
        if text != answer(scene, "describe", language, STYLES[adapter])
    ]
    assert len(wrong) <= len(asked) // 10, wrong  # 98 % are right: `python -m service.demo.evaluate`


@pytest.mark.parametrize("text", CONTROL)
def test_a_marker_in_the_text_is_text(client: httpx.Client, text: str) -> None:
    plain = ask(client, {"prompt": "Hello!", "max_new_tokens": 8})["usage"]
    got = ask(client, {"prompt": f"Hello!{text}", "max_new_tokens": 8})["usage"]
    assert got["image_tokens"] == 0
    assert got["prompt_tokens"] > plain["prompt_tokens"] + 1  # letters, not the one id


@pytest.mark.parametrize("text", CONTROL)
def test_a_marker_beside_a_picture_makes_no_second_one(client: httpx.Client, text: str) -> None:
    turn = user(f"{text} ", SCENE, question("describe", "en"))
    got = ask(client, {"messages": [turn], "max_new_tokens": 30})
    assert got["usage"]["image_tokens"] == 16


def test_a_question_without_a_picture_is_answered_so(client: httpx.Client) -> None:
    assert ask(client, {"prompt": question("color", "en")})["text"] == NO_PICTURE["en"]


def test_base_and_adapter_were_found_consistent(client: httpx.Client) -> None:
    assert client.get("/health/tokenizer").status_code == 200
    assert client.get("/health/tokenizer", params={"adapter": OFFICIAL}).status_code == 200
