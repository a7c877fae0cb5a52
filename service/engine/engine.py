"""The engine's door: prepare, submit, cancel.

Knows neither HTTP nor the audit's rules; what is loaded when it begins may be served.
"""

import queue
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from service.domain.generation import DEFAULT_NEW_TOKENS, Event, Failure, Generation, Job, Sampling
from service.domain.stats import EngineStats, StepStats
from service.engine.assembly import assemble
from service.engine.loading import LoadedModel
from service.engine.measuring import device_memory
from service.engine.prepared import Prepared
from service.engine.preparing import Preparer
from service.engine.worker import Worker

DEFAULT_RUNNING = 64


@dataclass(frozen=True, slots=True)
class Limits:
    """What an engine may take.

    Attributes:
        max_waiting: Jobs that may wait.
        max_running: Jobs that may be computed at once.
        max_new_tokens: Most tokens of an answer that does not say how many.
        cache_memory: See `memory.cache_budget`.
    """

    max_waiting: int
    max_running: int = DEFAULT_RUNNING
    max_new_tokens: int = DEFAULT_NEW_TOKENS
    cache_memory: float | None = None


class Engine:
    """A loaded model at work: slots for its sequences, and the thread that runs them.

    Args:
        loaded: What to run; nobody else may use its models from now on.
        limits: What it may take.
        observe: Told about every step, on the engine's thread; must not block.

    Raises:
        ServiceError: The model cannot compute a prompt.
    """

    def __init__(
        self, loaded: LoadedModel, limits: Limits, observe: Callable[[StepStats], None] = lambda step: None
    ) -> None:
        self.loaded = loaded
        self._parts = assemble(loaded, limits.max_running, limits.cache_memory, observe)
        default_new_tokens = min(DEFAULT_NEW_TOKENS, limits.max_new_tokens)
        self._preparer = Preparer(loaded, self._parts.slots.max_tokens, default_new_tokens)
        self._worker: Worker[Prepared] = Worker(self._parts.batch, limits.max_waiting)
        self._worker.start()

    def watch_tokens(self, undertrained: Mapping[str | None, Mapping[int, str]]) -> None:
        """Count these tokens in prompts and answers, by adapter."""
        self._preparer.watch_tokens(undertrained)

    def prepare(self, job: Job, sink: Callable[[Event], None], arrived_at: float) -> Prepared:
        """Encode a job; takes time, so call it on a thread of its own.

        Args:
            job: What is asked.
            sink: Takes the events, from the engine's thread; must not block.
            arrived_at: `time.monotonic()` at which the request came in.

        Raises:
            InvalidField: The model takes no pictures, or the text cannot be encoded.
            PromptTooLong: Prompt and answer exceed the context, or the memory for it.
        """
        return self._preparer.prepare(job, sink, arrived_at)

    def submit(self, prepared: Prepared) -> None:
        """Queue a prepared job.

        Raises:
            Overloaded: The queue is full.
            EngineFailed: The engine is dead or stopping.
        """
        self._worker.submit(prepared)

    def check_room(self, num_coming: int) -> None:
        """Refuse early what `submit` would refuse.

        Raises:
            Overloaded: The queue is full, with so many more on their way.
        """
        self._worker.check_room(num_coming)

    def cancel(self, prepared: Prepared) -> None:
        """End a job within one step; may be called from any thread, and twice."""
        prepared.sequence.cancel()
        self._worker.wake()

    def warm(self, adapter_id: str | None, seconds: float) -> None:
        """Send one small picture through the real path and wait for its answer.

        Raises:
            ServiceError: The path fails.
            queue.Empty: It takes longer than `seconds`.
        """
        events: queue.Queue[Event] = queue.Queue()
        message, pictures = self.loaded.family.probe()
        sampling = Sampling(2, 0.0, 1.0, 0, 1.0, None, (), is_logprobs=False)
        now = time.monotonic()
        job = Job("warm-up", (message,), tuple(pictures), adapter_id, sampling, now + seconds)
        self.submit(self.prepare(job, events.put, now))
        while not isinstance(event := events.get(timeout=seconds), Generation):
            if isinstance(event, Failure):
                raise event.error

    def stop(self) -> None:
        """End after the step in hand and fail who is left; returns at once."""
        self._worker.stop()

    def join(self, timeout_seconds: float) -> None:
        """Wait for the engine's thread."""
        self._worker.join(timeout_seconds)

    @property
    def heartbeat(self) -> float:
        """Unix time of the thread's last sign of life."""
        return self._worker.heartbeat

    @property
    def is_alive(self) -> bool:
        """The engine's thread runs."""
        return self._worker.is_alive

    def stats(self) -> EngineStats:
        """Return how the engine stands; may be called from any thread."""
        parts = self._parts
        return EngineStats(
            running=parts.batch.num_running,
            waiting=self._worker.num_waiting,
            slots=parts.batch.max_running,
            cache_usage=parts.slots.usage,
            picture_hits=parts.features.hits,
            picture_misses=parts.features.misses,
            prefix_hit_tokens=parts.states.hit_tokens,
            prefix_missed_tokens=parts.states.missed_tokens,
            nonfinite=parts.batch.nonfinite,
            out_of_memory=parts.batch.out_of_memory,
            preemptions=parts.batch.preemptions,
            heartbeat=self._worker.heartbeat,
        )

    def device_memory(self) -> dict[str, int]:
        """Return bytes by kind; empty on a CPU."""
        return device_memory(self.loaded.device)
