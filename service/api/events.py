"""Carries an answer's events from the engine's thread to the event loop.

Knows no HTTP.
"""

import asyncio
import contextlib
import math
import time

from service.domain.generation import Event, Failure, FinishReason, Generation, TextPiece
from service.errors import DeadlineExceeded, NotReady

GRACE_SECONDS = 1.0
"""The engine itself ends a running job at its deadline; this is for one that never got to run."""
RETRY_SECONDS = 5


class EventQueue:
    """A sink for the engine and a source for the route. Unbounded, but an answer has a bounded length."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    def put(self, event: Event) -> None:
        """Take an event; called from the engine's thread, never blocks and never raises."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends and nobody waits
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def next(self, deadline: float, patience_seconds: float = math.inf) -> TextPiece | Generation | None:
        """Wait for the next event.

        Args:
            deadline: `time.monotonic()` value at which the answer is over.
            patience_seconds: How long to wait for this event.

        Returns:
            The event, or None if patience ended before time did.

        Raises:
            ServiceError: The answer failed.
            DeadlineExceeded: Time is over.
            NotReady: The service shut down; a client's own cancellation leaves nobody to ask here.
        """
        remaining = max(deadline + GRACE_SECONDS - time.monotonic(), 0)
        try:
            async with asyncio.timeout(min(remaining, patience_seconds)):  # wait_for may swallow a cancellation (3.11)
                event = await self._events.get()
        except TimeoutError:
            if patience_seconds < remaining:
                return None
            raise DeadlineExceeded("the request's time is over before its answer was complete") from None
        if isinstance(event, Failure):
            raise event.error
        if isinstance(event, Generation) and event.finish_reason is FinishReason.CANCELLED:
            raise NotReady("the service shut down before the answer was complete", retry_after_seconds=RETRY_SECONDS)
        return event
