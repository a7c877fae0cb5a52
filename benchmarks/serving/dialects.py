"""How each kind of server is asked, and what the events of its streams say.

Knows no socket: bodies and events are plain values.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

MODEL_NAME = "bench"
DATA = b"data:"
DONE = b"[DONE]"


@dataclass(frozen=True, slots=True)
class Question:
    """What one request asks.

    Attributes:
        picture: A data URL, or None.
        system: The system's message, or empty.
        tokens: How many the answer must have.
    """

    prompt: str
    tokens: int
    picture: str | None = None
    system: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    """What one event says: text or not, and the counts of prompt and answer where it reports them."""

    has_text: bool = False
    prompt_tokens: int | None = None
    answer_tokens: int | None = None


class Dialect(Protocol):
    """A way of asking."""

    path: str

    def body(self, question: Question) -> dict[str, Any]:
        """Return the request's JSON."""

    def read(self, event: Mapping[str, Any]) -> Said:
        """Return what an event says.

        Raises:
            ValueError: The event is an error's.
        """


class Native:
    """Our `/generate`."""

    path = "/generate"

    def body(self, question: Question) -> dict[str, Any]:
        """Return the request's JSON."""
        turns: list[dict[str, Any]] = [{"role": "system", "content": question.system}] if question.system else []
        content: list[dict[str, Any]] = [{"type": "text", "text": question.prompt}]
        if question.picture:
            content.insert(0, {"type": "image", "image": question.picture})
        turns.append({"role": "user", "content": content})
        return {"messages": turns, "max_new_tokens": question.tokens, "temperature": 0.0, "stream": True}

    def read(self, event: Mapping[str, Any]) -> Said:
        """Return what an event says."""
        if "status" in event:
            raise ValueError(str(event.get("detail", event)))
        usage = event.get("usage", {})
        return Said(bool(event.get("text")), usage.get("prompt_tokens"), usage.get("generated_tokens"))


class OpenAI:
    """The `/v1/chat/completions` of other servers.

    Args:
        model: The name by which the server knows its model.
        asks_usage: The server reports usage only if asked to.
    """

    path = "/v1/chat/completions"

    def __init__(self, model: str = MODEL_NAME, *, asks_usage: bool) -> None:
        self._model = model
        self._options = {"stream_options": {"include_usage": True}} if asks_usage else {}

    def body(self, question: Question) -> dict[str, Any]:
        """Return the request's JSON."""
        turns: list[dict[str, Any]] = [{"role": "system", "content": question.system}] if question.system else []
        content: list[dict[str, Any]] = [{"type": "text", "text": question.prompt}]
        if question.picture:
            content.insert(0, {"type": "image_url", "image_url": {"url": question.picture}})
        turns.append({"role": "user", "content": content})
        sampling = {"max_tokens": question.tokens, "temperature": 0.0, "stream": True}
        return {"model": self._model, "messages": turns, **sampling, **self._options}

    def read(self, event: Mapping[str, Any]) -> Said:
        """Return what an event says."""
        if "error" in event:
            raise ValueError(str(event["error"]))
        usage = event.get("usage") or {}
        texts = (choice.get("delta", {}).get("content") for choice in event.get("choices", ()))
        return Said(any(texts), usage.get("prompt_tokens"), usage.get("completion_tokens"))


def events_of(chunk: bytes) -> list[Mapping[str, Any]]:
    """Return the JSON of every event in a piece of a stream that ends with a whole event."""
    lines = (line.removeprefix(DATA).strip() for line in chunk.splitlines() if line.startswith(DATA))
    return [json.loads(line) for line in lines if line and line != DONE]
