"""Sends an answer as server-sent events, and notices when nobody listens any more.

Knows no event's meaning.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

PING = b": ping\n\n"
"""A comment, which keeps proxies from closing a connection on which nothing happens."""
DONE = b"data: [DONE]\n\n"

T = TypeVar("T")


class EventStream(Response):
    """A response of server-sent events.

    Args:
        chunks: Encoded events.
        on_end: Called once, however the response ends, even if it never began.
    """

    media_type = "text/event-stream"

    def __init__(self, chunks: AsyncIterator[bytes], on_end: Callable[[], None]) -> None:
        self._chunks = chunks
        self._on_end = on_end
        self.status_code = 200
        self.background = None
        self.init_headers({"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything, or as much as the client waits for."""
        try:
            await unless_hung_up(self._send_all(send), receive)
        finally:
            self._on_end()

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for chunk in self._chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def event_bytes(body: dict[str, Any]) -> bytes:
    """Return one event; JSON has no line break, so it is one line of data."""
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n".encode()


async def unless_hung_up(work: Coroutine[Any, Any, T], receive: Receive) -> T | None:
    """Do some work, and give it up if the client hangs up first.

    Args:
        work: What to do.
        receive: The request's, after its body was read.

    Returns:
        The work's result, or None if the client hung up.
    """
    working, listening = asyncio.ensure_future(work), asyncio.ensure_future(_hangup(receive))
    try:
        await asyncio.wait((working, listening), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        listening.cancel()
        await asyncio.wait((working, listening))


async def _hangup(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
