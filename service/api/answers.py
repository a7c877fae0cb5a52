"""Writes what the engine sends back as the bodies that clients get.

Knows neither sockets nor server-sent events.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from service.api.schemas import (
    GenerateResponse,
    StreamPiece,
    StreamSummary,
    TimingsBody,
    TokenHealthBody,
    TokenLogprobBody,
    TokenOccurrences,
    UsageBody,
)
from service.domain.generation import Generation, Job, TextPiece, Timings, TokenHealth, TokenLogprob

TokenNames = Callable[[str | None, int], str]
"""From adapter and id to an undertrained token's string."""


def answer_body(job: Job, generation: Generation, token_name: TokenNames) -> dict[str, Any]:
    """Return the body of a whole answer."""
    summary = summary_body(job, generation, token_name)
    return GenerateResponse(
        id=job.job_id,
        text=generation.text,
        adapter=job.adapter_id,
        logprobs=_logprobs(generation.logprobs) if job.sampling.is_logprobs else None,
        **summary,
    ).model_dump(mode="json")


def summary_body(job: Job, generation: Generation, token_name: TokenNames) -> dict[str, Any]:
    """Return the last event but one of a stream."""

    def occurrences(counts: Mapping[int, int]) -> list[TokenOccurrences]:
        return [
            TokenOccurrences(id=token_id, token=token_name(job.adapter_id, token_id), count=count)
            for token_id, count in counts.items()
        ]

    return StreamSummary(
        finish_reason=generation.finish_reason.value,
        usage=UsageBody(**asdict(generation.usage)),
        timings=_timings(generation.timings),
        token_health=_token_health(generation.token_health, occurrences),
    ).model_dump(mode="json")


def piece_body(piece: TextPiece) -> dict[str, Any]:
    """Return one event of a stream; log-probabilities only if there are some."""
    body = StreamPiece(text=piece.text, logprobs=_logprobs(piece.logprobs) or None)
    return body.model_dump(mode="json", exclude_none=True)


def _timings(timings: Timings) -> TimingsBody:
    return TimingsBody(**{name: round(getattr(timings, name), 6) for name in TimingsBody.model_fields})


def _token_health(
    health: TokenHealth, occurrences: Callable[[Mapping[int, int]], list[TokenOccurrences]]
) -> TokenHealthBody:
    return TokenHealthBody(
        undertrained_prompt_tokens=occurrences(health.prompt),
        undertrained_generated_tokens=occurrences(health.generated),
    )


def _logprobs(logprobs: tuple[TokenLogprob, ...]) -> list[TokenLogprobBody]:
    return [TokenLogprobBody(token=one.token, id=one.token_id, logprob=round(one.logprob, 6)) for one in logprobs]
