"""The engine's door: load, measure, prepare, submit.

Knows neither HTTP nor the audit's rules; who may be served is decided elsewhere and told by `drop`.
"""

import queue
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from jinja2 import TemplateError

from service.domain.facts import LoadedFacts
from service.domain.generation import Event, Failure, Generation, Job, Sampling
from service.engine.families.family import Encoded, Encoder, picture_count
from service.engine.loading import LoadPlan, load
from service.engine.measuring import device_memory, measure
from service.engine.runner import Runner, is_device_lost
from service.engine.sequence import RunningSequence
from service.engine.worker import Work, Worker
from service.errors import DeadlineExceeded, EngineFailed, InvalidField, PromptTooLong, ServiceError
from service.wording import without_folders

DEFAULT_NEW_TOKENS = 512
"""For a request that does not say how many tokens it wants, if context and settings have room for them."""


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """An encoded job and the work that it will be."""

    sequence: RunningSequence
    work: Work


class Engine:
    """One loaded model and the thread that runs it.

    Args:
        plan: What to load.
        max_waiting: Jobs that may wait.
        max_new_tokens: Most tokens of an answer.

    Attributes:
        loaded: What is in memory; read it, do not change it.

    Raises:
        CheckpointError: The plan cannot be loaded.
    """

    def __init__(self, plan: LoadPlan, max_waiting: int, max_new_tokens: int = DEFAULT_NEW_TOKENS) -> None:
        self._default_new_tokens = min(DEFAULT_NEW_TOKENS, max_new_tokens)
        self.loaded = load(plan)
        self._worker = Worker(max_waiting)
        self._runner = Runner(self.loaded.device, self.loaded.stop_ids, self._worker.beat)
        self._undertrained: Mapping[str | None, Mapping[int, str]] = {}
        self._worker.start()

    def measure(self) -> LoadedFacts:
        """Measure what is loaded; before the first job only."""
        return measure(self.loaded)

    def drop(self, adapter_id: str) -> None:
        """Forget an adapter and free its memory."""
        self.loaded.adapters.pop(adapter_id, None)

    def watch_tokens(self, undertrained: Mapping[str | None, Mapping[int, str]]) -> None:
        """Count these tokens in prompts and answers, by adapter."""
        self._undertrained = undertrained

    def describe(self) -> dict[str, str]:
        """Return device, dtype and family as strings."""
        dtype = str(self.loaded.dtype).removeprefix("torch.")
        return {"device": str(self.loaded.device), "dtype": dtype, "family": self.loaded.family.name}

    def prepare(self, job: Job, sink: Callable[[Event], None], arrived_at: float) -> Prepared:
        """Encode a job; takes time, so call it on a thread of its own.

        Args:
            job: What is asked.
            sink: Takes the events, from the engine's thread; must not block.
            arrived_at: `time.monotonic()` at which the request came in.

        Raises:
            InvalidField: The model takes no pictures, or the text cannot be encoded.
            PromptTooLong: Prompt and answer exceed the context.
        """
        started = time.monotonic()
        view = self.loaded.view(job.adapter_id)
        if picture_count(job.messages) and not self.loaded.family.accepts_pictures:
            raise InvalidField("messages: this model reads text only; send no pictures")
        encoded = self._encode(view.encoder, job)
        sequence = RunningSequence(
            replace(job, pictures=()),  # what waits must not keep pixels in memory
            prompt_ids=encoded.prompt_ids,
            image_tokens=encoded.image_tokens,
            max_new_tokens=self._answer_room(len(encoded.prompt_ids), job.sampling.max_new_tokens),
            tokenizer=view.encoder.tokenizer,
            control_ids=view.encoder.control_ids,
            stop_ids=self.loaded.stop_ids,
            undertrained=self._undertrained.get(job.adapter_id, {}),
            arrived_at=arrived_at,
            preprocess_seconds=time.monotonic() - started,
            sink=sink,
        )
        return Prepared(sequence, Work(lambda: self._run(sequence, encoded), sequence.fail))

    def submit(self, prepared: Prepared) -> None:
        """Queue a prepared job.

        Raises:
            Overloaded: The queue is full.
            EngineFailed: The engine is dead or stopping.
        """
        self._worker.submit(prepared.work)

    def cancel(self, prepared: Prepared) -> None:
        """End a job: at once if it waits, within one step if it runs; may be called from any thread, and twice."""
        prepared.sequence.cancel()
        if self._worker.withdraw(prepared.work):
            prepared.sequence.finish()

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
        """Abandon what waits and end after the job in hand; returns at once."""
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

    @property
    def num_waiting(self) -> int:
        """Jobs in the queue."""
        return self._worker.num_waiting

    @property
    def num_running(self) -> int:
        """Jobs on the device."""
        return self._worker.num_running

    def device_memory(self) -> dict[str, int]:
        """Return bytes by kind; empty on a CPU."""
        return device_memory(self.loaded.device)

    def _encode(self, encoder: Encoder, job: Job) -> Encoded:
        try:
            return encoder.encode(job.messages, job.pictures)
        except (TemplateError, ValueError) as error:
            reason = without_folders(str(error)).strip().splitlines()[0:1]
            raise InvalidField(
                f"messages: this model's chat template or processor does not take them: {' '.join(reason)[:150]}"
            ) from error

    def _answer_room(self, prompt_tokens: int, wanted: int | None) -> int:
        """Return how many tokens the answer may have."""
        limit = self.loaded.context_tokens
        if limit is None:
            return wanted or self._default_new_tokens
        room = limit - prompt_tokens
        if room < (wanted or 1):
            raise PromptTooLong(
                f"the prompt has {prompt_tokens} tokens and the answer may have {wanted or 1}, together more than the "
                f"model's {limit}; shorten the prompt, send fewer pictures, or ask for at most {max(room, 0)} tokens"
            )
        return wanted or min(self._default_new_tokens, room)

    def _run(self, sequence: RunningSequence, encoded: Encoded) -> None:
        """Run one job on the engine's thread; whatever it raises ends this job alone."""
        sequence.start()
        try:
            if sequence.is_expired:
                raise DeadlineExceeded("the request's time was over while it waited in the queue")
            if not sequence.is_cancelled:
                self._runner.run(sequence, self.loaded.view(sequence.job.adapter_id).model, encoded)
            sequence.finish()
        except ServiceError as error:
            sequence.fail(error)
        except Exception as error:  # the boundary: a step's exception ends its sequence, not the engine
            if is_device_lost(error):
                raise  # the worker ends, and fails this sequence and all that wait
            failure = EngineFailed(f"generation failed with {type(error).__name__}")
            failure.__cause__ = error
            sequence.fail(failure)
