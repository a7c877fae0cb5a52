"""Carries an answer's events from the engine's thread to the event loop.

Knows no HTTP.
"""

import asyncio
import time
from collections.abc import AsyncIterator

from service.domain.generation import Event, Failure, Generation, TextPiece
from service.errors import DeadlineExceeded

GRACE_SECONDS = 1.0
"""The engine itself ends a running job at its deadline; this is for one that never got to run."""


class EventQueue:
    """A sink for the engine and an iterator for the route. Unbounded, but an answer has a bounded length."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    def put(self, event: Event) -> None:
        """Take an event; called from the engine's thread, never blocks."""
        self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def until(self, deadline: float) -> AsyncIterator[TextPiece | Generation]:
        """Yield events up to the last one.

        Args:
            deadline: `time.monotonic()` value.

        Raises:
            ServiceError: The answer failed.
            DeadlineExceeded: Time is over.
        """
        while True:
            remaining = deadline + GRACE_SECONDS - time.monotonic()
            try:
                event = await asyncio.wait_for(self._events.get(), max(remaining, 0))
            except TimeoutError:
                raise DeadlineExceeded("the request's time is over before its answer was complete") from None
            if isinstance(event, Failure):
                raise event.error
            yield event
