"""One request's life in the engine: which tokens came, what text may be shown, and whether it is over.

Knows no tensor and no thread; the batch pushes ids in, events come out through `sink`.
"""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from service.domain.generation import (
    Event,
    Failure,
    FinishReason,
    Generation,
    Job,
    TextPiece,
    Timings,
    TokenHealth,
    TokenLogprob,
    Usage,
)
from service.engine.text import TextAssembler


class RunningSequence:
    """A job on its way.

    Args:
        job: What was asked.
        prompt_ids: The encoded prompt.
        image_tokens: How many of them stand for pictures.
        max_new_tokens: Tokens that the answer may have.
        tokenizer: Of the adapter that answers.
        control_ids: Ids that are not shown.
        stop_ids: Ids that end the answer.
        undertrained: Token string by id, to count in prompt and answer.
        arrived_at: `time.monotonic()` at which the request came in.
        preprocess_seconds: Time spent on encoding.
        sink: Takes the events, from the engine's thread; must not block.
    """

    def __init__(
        self,
        job: Job,
        *,
        prompt_ids: Sequence[int],
        image_tokens: int,
        max_new_tokens: int,
        tokenizer: Any,
        control_ids: frozenset[int],
        stop_ids: Sequence[int],
        undertrained: Mapping[int, str],
        arrived_at: float,
        preprocess_seconds: float,
        sink: Callable[[Event], None],
    ) -> None:
        self.job = job
        self.prompt_ids = tuple(prompt_ids)
        self.max_new_tokens = max_new_tokens
        self._image_tokens = image_tokens
        self._tokenizer = tokenizer
        self._control_ids = control_ids
        self.stop_ids = tuple(stop_ids)
        self._undertrained = undertrained
        self._sink = sink
        self._arrived_at = arrived_at
        self._preprocess_seconds = preprocess_seconds
        self._enqueued_at = time.monotonic()
        self.started_at = self._enqueued_at
        self.is_started = False
        self._token_times: list[float] = []
        self._text = TextAssembler(tokenizer, job.sampling.stop)
        self._logprobs: list[TokenLogprob] = []
        self._unsent_logprobs: list[TokenLogprob] = []
        self.generated_ids: list[int] = []
        self.is_cancelled = False
        self.finish_reason: FinishReason | None = None

    @property
    def is_expired(self) -> bool:
        """The deadline has passed."""
        return time.monotonic() > self.job.deadline

    def cancel(self) -> None:
        """Ask for an end; may be called from any thread, takes effect within one step."""
        self.is_cancelled = True

    def start(self) -> None:
        """Note that the engine begins to work on it; for the first time, if it has to begin again."""
        if not self.is_started:
            self.started_at = time.monotonic()
            self.is_started = True

    def push(self, token_id: int, logprob: float | None) -> None:
        """Take one generated token, and send the text that it completes."""
        self._token_times.append(time.monotonic())
        self.generated_ids.append(token_id)
        if token_id in self.stop_ids:
            self.finish_reason = FinishReason.STOP
        else:
            self._keep_logprob(token_id, logprob)
            shown = "" if token_id in self._control_ids else self._text.push(token_id)
            if self._text.is_stopped:
                self.finish_reason = FinishReason.STOP
            elif len(self.generated_ids) >= self.max_new_tokens:
                self.finish_reason = FinishReason.LENGTH
            self._send(shown)
        if self.is_cancelled:
            self.finish_reason = FinishReason.CANCELLED

    def finish(self) -> None:
        """Send what was held back and the `Generation`."""
        self._send(self._text.flush())
        self._sink(self._generation())

    def fail(self, error: Exception) -> None:
        """Send a failure as the last event."""
        self._sink(Failure(error, self._generation()))

    def _generation(self) -> Generation:
        return Generation(
            text=self._text.text,
            finish_reason=self.finish_reason or FinishReason.CANCELLED,
            usage=Usage(len(self.prompt_ids), self._image_tokens, len(self.generated_ids)),
            timings=self._timings(),
            token_health=TokenHealth(self._occurrences(self.prompt_ids), self._occurrences(self.generated_ids)),
            logprobs=tuple(self._logprobs),
        )

    def _send(self, text: str) -> None:
        if text:
            self._sink(TextPiece(text, tuple(self._unsent_logprobs)))
            self._unsent_logprobs.clear()

    def _keep_logprob(self, token_id: int, logprob: float | None) -> None:
        if logprob is not None and self.job.sampling.is_logprobs:
            one = TokenLogprob(self._tokenizer.decode([token_id]), token_id, logprob)
            self._logprobs.append(one)
            self._unsent_logprobs.append(one)

    def _occurrences(self, ids: Sequence[int]) -> dict[int, int]:
        return dict(Counter(one for one in ids if one in self._undertrained))

    def _timings(self) -> Timings:
        now = time.monotonic()
        times = self._token_times
        first = times[0] if times else now
        return Timings(
            queue_seconds=self.started_at - self._enqueued_at,
            preprocess_seconds=self._preprocess_seconds,
            prefill_seconds=first - self.started_at,
            decode_seconds=now - first,
            time_to_first_token_seconds=first - self._arrived_at,
            inter_token_seconds=tuple(later - earlier for earlier, later in itertools.pairwise(times)),
        )
