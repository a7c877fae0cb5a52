"""Sends questions as clients do, and notes when every piece of every answer came.

Knows a dialect, but neither servers nor statistics. The clock of a request starts when it was due, so a client that is
held up hides nothing. What came is read only afterwards, so that the client takes little of the processor.
"""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import httpx

from benchmarks.serving.dialects import Dialect, Question, events_of

EVENT_END = b"\n\n"
REQUEST_SECONDS = 900.0
MAX_TRIES_AFTER_ERRORS = 20
"""So many failed requests end a load: nothing is measured any more."""


@dataclass(slots=True)
class Exchange:
    """One request and what came back.

    Attributes:
        due: `time.perf_counter()` at which it was to be sent.
        text_times: When each event with text came.
        answer_tokens: As the server counts them; None if its report did not come.
        error: Why it failed, or None.
        is_background: It is part of the load but not of what is measured.
    """

    due: float
    wanted_tokens: int
    is_background: bool = False
    text_times: list[float] = field(default_factory=list)
    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    finished: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """When a load ran.

    Attributes:
        end: After it, no request was sent and no token counts.
    """

    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Span:
    """How long a load lasts: for some seconds, or for some requests if `requests` is given.

    Attributes:
        grace_seconds: How long answers that are under way at the end may take.
    """

    seconds: float
    requests: int | None = None
    grace_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Questions that come when they come, with exponential gaps.

    Attributes:
        rate: Per second.
        is_background: See `Exchange`.
    """

    questions: Iterator[Question]
    rate: float
    is_background: bool = False
    seed: int = 0


class Load:
    """Asks one server.

    Args:
        url: The server's.
        dialect: How it is asked.
    """

    def __init__(self, url: str, dialect: Dialect) -> None:
        self._url = url + dialect.path
        self._dialect = dialect
        self._exchanges: list[Exchange] = []
        self._arrived: list[asyncio.Task[None]] = []

    def closed(
        self, questions: Iterator[Question], clients: int, span: Span, beside: Arrivals | None = None
    ) -> tuple[list[Exchange], Window]:
        """Let each of some clients send its next request when its last one ended.

        Args:
            questions: What they ask.
            clients: How many.
            span: For how long.
            beside: What else comes meanwhile.
        """
        return asyncio.run(self._closed(questions, clients, span, beside))

    def open(self, arrivals: Arrivals, span: Span) -> tuple[list[Exchange], Window]:
        """Send requests when they are due, whatever became of the earlier ones."""
        return asyncio.run(self._open(arrivals, span))

    async def _closed(
        self, questions: Iterator[Question], clients: int, span: Span, beside: Arrivals | None
    ) -> tuple[list[Exchange], Window]:
        async with _client() as http:
            start = time.perf_counter()
            left = iter(range(span.requests)) if span.requests else None

            def has_next() -> bool:
                if self._is_failing():
                    return False
                return next(left, None) is not None if left else time.perf_counter() < start + span.seconds

            async def one_client() -> None:
                while has_next():
                    await self._ask(http, next(questions), time.perf_counter())

            arriving = [asyncio.create_task(self._arrive(http, beside))] if beside else []
            asking = [asyncio.create_task(one_client()) for _ in range(clients)]
            await asyncio.wait(asking, timeout=None if left else span.seconds)
            end = time.perf_counter()
            await _cut(arriving)
            await asyncio.wait(asking, timeout=span.grace_seconds)
            await _cut(asking + self._arrived)
        return self._exchanges, Window(start, end)

    async def _open(self, arrivals: Arrivals, span: Span) -> tuple[list[Exchange], Window]:
        async with _client() as http:
            start = time.perf_counter()
            arriving = asyncio.create_task(self._arrive(http, arrivals))
            await asyncio.wait([arriving], timeout=span.requests / arrivals.rate if span.requests else span.seconds)
            end = time.perf_counter()
            await _cut([arriving])
            if self._arrived:
                await asyncio.wait(self._arrived, timeout=span.grace_seconds)
            await _cut(self._arrived)
        return self._exchanges, Window(start, end)

    async def _arrive(self, http: httpx.AsyncClient, arrivals: Arrivals) -> None:
        chance = random.Random(arrivals.seed)
        due = time.perf_counter()
        while not self._is_failing():
            due += chance.expovariate(arrivals.rate)
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            asking = self._ask(http, next(arrivals.questions), due, is_background=arrivals.is_background)
            self._arrived.append(asyncio.create_task(asking))

    async def _ask(
        self, http: httpx.AsyncClient, question: Question, due: float, *, is_background: bool = False
    ) -> None:
        exchange = Exchange(due, question.tokens, is_background)
        self._exchanges.append(exchange)
        pieces: list[tuple[float, bytes]] = []
        try:
            body = json.dumps(self._dialect.body(question)).encode()
            headers = {"Content-Type": "application/json"}
            async with http.stream("POST", self._url, content=body, headers=headers) as answer:
                if answer.status_code != 200:
                    text = (await answer.aread()).decode(errors="replace")
                    exchange.error = f"{answer.status_code}: {text[:300]}"
                    return
                async for piece in _whole_events(answer.aiter_bytes()):
                    pieces.append((time.perf_counter(), piece))
            exchange.finished = time.perf_counter()
        except httpx.HTTPError as error:
            exchange.error = f"{type(error).__name__}: {error}"
        finally:
            self._read(exchange, pieces)

    def _read(self, exchange: Exchange, pieces: list[tuple[float, bytes]]) -> None:
        try:
            for moment, piece in pieces:
                for event in events_of(piece):
                    said = self._dialect.read(event)
                    if said.has_text:
                        exchange.text_times.append(moment)
                    if said.answer_tokens is not None:
                        exchange.prompt_tokens, exchange.answer_tokens = said.prompt_tokens, said.answer_tokens
        except ValueError as error:
            exchange.error = f"{error}"[:300]

    def _is_failing(self) -> bool:
        return sum(one.error is not None for one in self._exchanges) > MAX_TRIES_AFTER_ERRORS


def _client() -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    return httpx.AsyncClient(timeout=REQUEST_SECONDS, limits=limits)


async def _cut(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel what still runs, and raise what went wrong in what does not."""
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome


async def _whole_events(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Join what the network cut, so that every piece ends with an event."""
    rest = b""
    async for chunk in chunks:
        rest += chunk
        end = rest.rfind(EVENT_END)
        if end >= 0:
            whole, rest = rest[: end + 2], rest[end + 2 :]
            yield whole
    if rest.strip():
        yield rest
