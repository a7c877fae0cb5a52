"""`POST /generate`: one way down to the engine, one way back.

Knows neither tensors nor templates.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from service.api.auth import KeyCheck
from service.api.bodies import read_request
from service.api.events import EventQueue
from service.api.jobs import RequestLimits, build_job
from service.api.ports import Service
from service.api.problems import MEDIA_TYPE, problem
from service.api.schemas import (
    GenerateRequest,
    GenerateResponse,
    Problem,
    TimingsBody,
    TokenHealthBody,
    TokenLogprobBody,
    TokenOccurrences,
    UsageBody,
)
from service.domain.generation import FinishReason, Generation, Job, TextPiece, TokenLogprob
from service.errors import ServiceError
from service.logs import request_id

PING_SECONDS = 15
HANGUP_POLL_SECONDS = 0.05
STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "content": {MEDIA_TYPE: {}}}
    for status in (400, 401, 404, 413, 415, 422, 429, 500, 503, 504)
}
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/GenerateRequest"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["request"],
                    "properties": {
                        "request": {"$ref": "#/components/schemas/GenerateRequest"},
                        "image": {"type": "array", "items": {"type": "string", "format": "binary"}},
                    },
                }
            },
        },
    }
}


def generate_router(
    service: Service[Any], limits: RequestLimits, max_body_bytes: int, check_key: KeyCheck
) -> APIRouter:
    """Build the route over a service."""
    router = APIRouter(dependencies=[Depends(check_key)])

    @router.post("/generate", response_model=GenerateResponse, responses=ERRORS, openapi_extra=BODY)
    async def generate(request: Request) -> Response:
        """Answer a conversation with pictures; `stream: true` sends the text as server-sent events."""
        arrived_at = time.monotonic()
        service.admit()
        wanted, files = await read_request(request, limits.max_pictures, max_body_bytes)
        request.state.adapter = wanted.adapter if wanted.adapter in service.adapter_ids else None
        service.admit_adapter(wanted.adapter)
        answer = await _Answer.begin(service, wanted, files, limits, arrived_at)
        if wanted.stream:
            return EventSourceResponse(answer.stream(request), headers=STREAM_HEADERS, ping=PING_SECONDS, sep="\n")
        return await answer.whole(request)

    return router


class _Answer:
    """One admitted request, until its last byte."""

    def __init__(self, service: Service[Any], job: Job, ticket: Any, events: EventQueue) -> None:
        self._service = service
        self._job = job
        self._ticket = ticket
        self._events = events

    @classmethod
    async def begin(
        cls,
        service: Service[Any],
        wanted: GenerateRequest,
        files: list[bytes],
        limits: RequestLimits,
        arrived_at: float,
    ) -> "_Answer":
        """Decode, encode and queue; the first two on a thread."""
        events = EventQueue()

        def prepare() -> tuple[Job, Any]:
            job = build_job(wanted, files, limits, request_id.get() or "", arrived_at)
            return job, service.prepare(job, events.put, arrived_at)

        job, ticket = await run_in_threadpool(prepare)
        service.submit(ticket)
        return cls(service, job, ticket, events)

    async def whole(self, request: Request) -> Response:
        """Wait for the whole answer; a client that hangs up ends it."""
        try:
            generation = await _first_of(self._collect(), _disconnected(request))
        finally:
            self._service.cancel(self._ticket)
        if generation is None or generation.finish_reason is FinishReason.CANCELLED:
            request.state.outcome = "cancelled"
            return Response(status_code=499)
        self._note(request, generation)
        return JSONResponse(self._body(generation))

    async def stream(self, request: Request) -> AsyncIterator[ServerSentEvent]:
        """Send pieces of text, the summary, and `[DONE]`; an error on the way is the last event."""
        request.state.outcome = "cancelled"  # until the last event is sent
        try:
            async for event in self._events.until(self._job.deadline):
                if isinstance(event, TextPiece):
                    yield _sse(_piece(event))
                    continue
                self._note(request, event)
                yield _sse(self._summary(event))
                break
            request.state.outcome = "ok"
        except ServiceError as error:
            request.state.outcome = "server_error"
            yield _sse({"error": problem(error)})
        finally:
            self._service.cancel(self._ticket)
        yield ServerSentEvent("[DONE]", sep="\n")

    async def _collect(self) -> Generation | None:
        async for event in self._events.until(self._job.deadline):
            if isinstance(event, Generation):
                return event
        return None

    def _note(self, request: Request, generation: Generation) -> None:
        self._service.record(self._job, generation)
        usage = generation.usage
        request.state.prompt_tokens = usage.prompt_tokens
        request.state.image_tokens = usage.image_tokens
        request.state.generated_tokens = usage.generated_tokens

    def _body(self, generation: Generation) -> dict[str, Any]:
        wants_logprobs = self._job.sampling.is_logprobs
        return {
            "id": self._job.job_id,
            "text": generation.text,
            "adapter": self._job.adapter_id,
            **self._summary(generation),
            "logprobs": _logprobs(generation.logprobs) if wants_logprobs else None,
        }

    def _summary(self, generation: Generation) -> dict[str, Any]:
        usage, timings = generation.usage, generation.timings
        return {
            "finish_reason": generation.finish_reason.value,
            "usage": UsageBody(
                prompt_tokens=usage.prompt_tokens,
                image_tokens=usage.image_tokens,
                generated_tokens=usage.generated_tokens,
            ).model_dump(),
            "timings": TimingsBody(
                queue_seconds=round(timings.queue_seconds, 6),
                preprocess_seconds=round(timings.preprocess_seconds, 6),
                prefill_seconds=round(timings.prefill_seconds, 6),
                decode_seconds=round(timings.decode_seconds, 6),
                time_to_first_token_seconds=round(timings.time_to_first_token_seconds, 6),
            ).model_dump(),
            "token_health": TokenHealthBody(
                undertrained_prompt_tokens=self._occurrences(generation.token_health.prompt),
                undertrained_generated_tokens=self._occurrences(generation.token_health.generated),
            ).model_dump(),
        }

    def _occurrences(self, counts: Any) -> list[TokenOccurrences]:
        adapter_id = self._job.adapter_id
        return [
            TokenOccurrences(id=token_id, token=self._service.token_name(adapter_id, token_id), count=count)
            for token_id, count in counts.items()
        ]


async def _first_of(answer: Any, hangup: Any) -> Generation | None:
    """Return the answer, or None if the client hangs up first; the other one is cancelled."""
    tasks = [asyncio.ensure_future(answer), asyncio.ensure_future(hangup)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        result: Generation | None = tasks[0].result() if tasks[0] in done else None
        return result
    finally:
        for task in tasks:
            task.cancel()


async def _disconnected(request: Request) -> None:
    while not await request.is_disconnected():  # noqa: ASYNC110 - ASGI tells of a hang-up only when asked
        await asyncio.sleep(HANGUP_POLL_SECONDS)


def _piece(piece: TextPiece) -> dict[str, Any]:
    body: dict[str, Any] = {"text": piece.text}
    if piece.logprobs:
        body["logprobs"] = _logprobs(piece.logprobs)
    return body


def _logprobs(logprobs: tuple[TokenLogprob, ...]) -> list[dict[str, Any]]:
    return [
        TokenLogprobBody(token=one.token, id=one.token_id, logprob=round(one.logprob, 6)).model_dump()
        for one in logprobs
    ]


def _sse(body: dict[str, Any]) -> ServerSentEvent:
    return ServerSentEvent(json.dumps(body, ensure_ascii=False), sep="\n")
