"""What a client does: draws pictures, asks about them, and reads answers and streams."""

import base64
import json
import re
from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import Any

import httpx
from PIL import Image

from service.demo.drawing import Scene, draw
from service.demo.examples import EXAMPLES
from service.demo.phrasing import Kind, Language, question

SCENES = [scene for scene, _ in EXAMPLES.values()]
"""Scenes whose pictures ship with the demo, which the base describes rightly."""
SCENE = SCENES[0]
HELLO: dict[str, Any] = {"prompt": "Hello!"}
ENDLESS: dict[str, Any] = {"prompt": "Hello!", "max_new_tokens": 2000, "temperature": 1.0, "seed": 7}
"""To the server of a checkpoint that never stops: an answer of many seconds."""


def picture_bytes(picture: Scene | Image.Image, size: int | tuple[int, int] = 224, format_: str = "PNG") -> bytes:
    file = BytesIO()
    drawn = draw(picture, size) if isinstance(picture, Scene) else picture
    drawn.save(file, format_)
    return file.getvalue()


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def data_url(picture: Scene | Image.Image) -> str:
    return f"data:image/png;base64,{base64_of(picture_bytes(picture))}"


def about(scene: Scene, kind: Kind = "describe", language: Language = "en", **more: Any) -> dict[str, Any]:
    """Return a request that asks about one scene."""
    return {"prompt": question(kind, language), "images": [data_url(scene)], **more}


def user(*parts: str | Scene) -> dict[str, Any]:
    """Return the user's turn: text and pictures in order."""
    return {
        "role": "user",
        "content": [
            {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "image": data_url(part)}
            for part in parts
        ],
    }


def ask(client: httpx.Client, request: dict[str, Any]) -> dict[str, Any]:
    """Send a request that must succeed, and return the answer."""
    response = client.post("/generate", json=request)
    assert response.status_code == 200, response.text[:2000]
    answer: dict[str, Any] = response.json()
    return answer


def events_of(lines: Iterable[str]) -> Iterator[Any]:
    """Yield the events of a stream, JSON decoded; `[DONE]` as it is."""
    for line in lines:
        if line.startswith("data: "):
            data = line.removeprefix("data: ")
            yield data if data == "[DONE]" else json.loads(data)


def streamed(client: httpx.Client, request: dict[str, Any]) -> list[Any]:
    """Send a request with `stream`, and return all events."""
    with client.stream("POST", "/generate", json={**request, "stream": True}) as response:
        assert response.status_code == 200, response.read()[:2000]
        return list(events_of(response.iter_lines()))


def samples_of(client: httpx.Client) -> dict[str, float]:
    """Return the metrics, from `name{labels}` to value."""
    text = client.get("/metrics").text
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in re.findall(r"^[^#\n].*$", text, re.M)}


def assert_problem(response: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """Hold what is true of every error: its shape, its headers and its size."""
    assert response.status_code == status, response.text[:2000]
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["type"] == f"urn:minicpm:problem:{kind}"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert problem["request_id"] == response.headers["x-request-id"]
    assert response.headers["x-should-retry"] in ("true", "false")
    if status in (429, 503):
        assert int(response.headers["retry-after"]) >= 1
    assert "findings" in problem or len(response.content) < 4096
    for leak in ("Traceback", "/home/", "/usr/", "object at 0x", "site-packages"):
        assert leak not in response.text
    return problem
