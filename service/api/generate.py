"""`POST /generate`: one way down to the engine, one way back.

Knows neither tensors nor templates.
"""

import time
from collections.abc import AsyncIterator
from typing import Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from service.api.answers import answer_body, piece_body, summary_body
from service.api.auth import KeyCheck
from service.api.bodies import read_request
from service.api.document import GENERATE
from service.api.events import EventQueue
from service.api.jobs import RequestLimits, build_job
from service.api.middleware import outcome_of
from service.api.ports import Service
from service.api.problems import as_service_error, problem
from service.api.schemas import GenerateRequest, GenerateResponse
from service.api.streaming import DONE, PING, EventStream, event_bytes, unless_hung_up
from service.domain.generation import Generation, Job, TextPiece
from service.logs import request_id

PING_SECONDS = 15.0
PREPARING_THREADS = 4
"""How many requests may have their pictures in memory as pixels at the same time."""


def generate_router(
    service: Service[Any], limits: RequestLimits, max_body_bytes: int, check_key: KeyCheck
) -> APIRouter:
    """Build the route over a service."""
    router = APIRouter(dependencies=[Depends(check_key)])
    threads = CapacityLimiter(PREPARING_THREADS)

    @router.post("/generate", response_model=GenerateResponse, **GENERATE)
    async def generate(request: Request) -> Response:
        """Answer a conversation with pictures; `stream: true` sends the text as server-sent events."""
        arrived_at = time.monotonic()
        service.admit()
        wanted, files = await read_request(request, max_body_bytes)
        request.state.adapter = wanted.adapter
        service.admit_adapter(wanted.adapter)
        answer = await _begin(service, wanted, files, limits, arrived_at, threads)
        return await (answer.stream(request) if wanted.stream else answer.whole(request))

    return router


async def _begin(
    service: Service[Any],
    wanted: GenerateRequest,
    files: list[bytes],
    limits: RequestLimits,
    arrived_at: float,
    threads: CapacityLimiter,
) -> "_Answer":
    """Decode, encode and queue; the first two on a thread, and only if there is a place in the queue."""
    events = EventQueue()

    def prepare() -> tuple[Job, Any]:
        job = build_job(wanted, files, limits, request_id.get() or "", arrived_at)
        return job, service.prepare(job, events.put, arrived_at)

    with service.place():
        job, ticket = await to_thread.run_sync(prepare, limiter=threads)
        service.submit(ticket)
    return _Answer(service, job, ticket, events)


class _Answer:
    """One admitted request, until its last byte."""

    def __init__(self, service: Service[Any], job: Job, ticket: Any, events: EventQueue) -> None:
        self._service = service
        self._job = job
        self._ticket = ticket
        self._events = events

    async def whole(self, request: Request) -> Response:
        """Wait for the whole answer; a client that hangs up ends it."""
        try:
            generation = await unless_hung_up(self._generation(), request.receive)
        finally:
            self._end()
        if generation is None:
            return Response(status_code=499)  # nobody reads it; the log and the metrics do
        self._note(request, generation)
        return JSONResponse(answer_body(self._job, generation, self._service.token_name))

    async def stream(self, request: Request) -> Response:
        """Send pieces of text, the summary, and `[DONE]`.

        The status line waits for the first event, so that a failure up to there has a status of its own; what fails
        later becomes the stream's last event.
        """
        try:
            first = await unless_hung_up(self._next(), request.receive)
        except BaseException:
            self._end()
            raise
        request.state.outcome = "cancelled"  # until the last event is on its way
        return EventStream(self._chunks(request, first), self._end)

    async def _chunks(self, request: Request, event: TextPiece | Generation | None) -> AsyncIterator[bytes]:
        try:
            while not isinstance(event, Generation):
                yield PING if event is None else event_bytes(piece_body(event))
                event = await self._next()
            self._note(request, event)
            yield event_bytes(summary_body(self._job, event, self._service.token_name))
            request.state.outcome = "ok"
            yield DONE
        except Exception as error:
            failure = as_service_error(error)
            request.state.outcome = outcome_of(failure.status)
            yield event_bytes({"error": problem(failure)})

    async def _next(self) -> TextPiece | Generation | None:
        return await self._events.next(self._job.deadline, PING_SECONDS)

    async def _generation(self) -> Generation:
        while not isinstance(event := await self._events.next(self._job.deadline), Generation):
            pass
        return event

    def _end(self) -> None:
        self._service.cancel(self._ticket)

    def _note(self, request: Request, generation: Generation) -> None:
        usage = generation.usage
        request.state.prompt_tokens = usage.prompt_tokens
        request.state.image_tokens = usage.image_tokens
        request.state.generated_tokens = usage.generated_tokens
