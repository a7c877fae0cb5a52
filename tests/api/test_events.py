"""What carries an answer to the event loop and out of the door, where a real server would take too long to show it."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

from service.api.events import GRACE_SECONDS, EventQueue
from service.api.streaming import EventStream, unless_hung_up
from service.domain.generation import Failure, FinishReason, Generation, TextPiece, Timings, TokenHealth, Usage
from service.errors import DeadlineExceeded, EngineFailed, NotReady

SCOPE: dict[str, Any] = {"type": "http"}


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 10))


def soon(seconds: float = 5) -> float:
    return time.monotonic() + seconds


def generation(reason: FinishReason) -> Generation:
    return Generation("text", reason, Usage(1, 0, 1), Timings(0, 0, 0, 0, 0), TokenHealth())


def test_events_of_another_thread_come_in_order() -> None:
    async def work() -> None:
        events = EventQueue()
        pieces = [TextPiece(str(number)) for number in range(100)]
        threading.Thread(target=lambda: [events.put(one) for one in pieces]).start()
        assert [await events.next(soon()) for _ in pieces] == pieces

    run(work())


def test_patience_that_ends_is_no_end_of_the_answer() -> None:
    async def work() -> None:
        events = EventQueue()
        assert await events.next(soon(), patience_seconds=0.01) is None
        events.put(TextPiece("late"))
        assert await events.next(soon(), patience_seconds=0.01) == TextPiece("late")

    run(work())


def test_a_deadline_ends_the_waiting_after_a_grace() -> None:
    async def work() -> None:
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            await EventQueue().next(soon(-GRACE_SECONDS + 0.05), patience_seconds=60)
        assert time.monotonic() - started < GRACE_SECONDS

    run(work())


def test_failures_and_foreign_cancellation_are_raised() -> None:
    async def work() -> None:
        events = EventQueue()
        events.put(Failure(EngineFailed("broke")))
        events.put(generation(FinishReason.CANCELLED))
        with pytest.raises(EngineFailed):
            await events.next(soon())
        with pytest.raises(NotReady):
            await events.next(soon())

    run(work())


def test_a_cancellation_beside_an_event_is_not_lost() -> None:
    async def work() -> None:
        events = EventQueue()
        waiting = asyncio.ensure_future(events.next(soon()))
        await asyncio.sleep(0.01)
        events.put(TextPiece("at the same time"))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        assert await events.next(soon()) == TextPiece("at the same time")

    run(work())


def test_an_event_after_the_loop_closed_hurts_nobody() -> None:
    async def make() -> EventQueue:
        return EventQueue()

    asyncio.run(make()).put(TextPiece("too late"))


async def chunks(number: int) -> AsyncIterator[bytes]:
    for one in range(number):
        yield b"data: %d\n\n" % one
        await asyncio.sleep(0)


async def hung_up() -> dict[str, Any]:
    return {"type": "http.disconnect"}


async def listening() -> dict[str, Any]:
    await asyncio.sleep(60)
    return {"type": "http.disconnect"}


async def discard(message: Any) -> None:
    await asyncio.sleep(0)


async def stall(message: Any) -> None:
    await asyncio.sleep(60)


async def fail(message: Any) -> None:
    raise OSError("gone")


def test_a_stream_ends_once_however_it_ends() -> None:
    async def work() -> None:
        for receive, send in ((listening, discard), (hung_up, discard), (hung_up, stall)):
            ends: list[int] = []
            await EventStream(chunks(3), lambda ends=ends: ends.append(1))(SCOPE, receive, send)
            assert ends == [1]
        ends = []
        with pytest.raises(OSError, match="gone"):
            await EventStream(chunks(3), lambda: ends.append(1))(SCOPE, listening, fail)
        assert ends == [1]
        stream = asyncio.ensure_future(EventStream(chunks(3), lambda: ends.append(2))(SCOPE, listening, stall))
        await asyncio.sleep(0.01)
        stream.cancel()
        await asyncio.wait([stream])
        assert ends == [1, 2]

    run(work())


def test_work_is_given_up_when_the_client_hangs_up() -> None:
    async def work() -> None:
        started = time.monotonic()
        assert await unless_hung_up(asyncio.sleep(60), hung_up) is None
        assert time.monotonic() - started < 5
        assert await unless_hung_up(asyncio.sleep(0, "done"), listening) == "done"

    run(work())
