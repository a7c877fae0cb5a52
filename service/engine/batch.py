"""The engine's loop: sweep, admit, compute pieces of prompts, decode one token for everyone, tell them.

Knows no thread. Whatever a computation raises ends the sequences that were in it, and nobody else's; where the device's
memory runs out, they begin again instead.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar

import torch

from service.domain.generation import FinishReason
from service.domain.stats import StepKind, StepStats
from service.engine.decoding import Decoder
from service.engine.headroom import Headroom
from service.engine.pace import Pace
from service.engine.prefill import Prefiller, Progress
from service.engine.prepared import Prepared
from service.engine.remembered import StateMemory
from service.engine.sampling import Chosen
from service.engine.scheduler import Scheduler
from service.engine.slots import Slots
from service.errors import DeadlineExceeded, EngineFailed, OutOfMemory, ServiceError

T = TypeVar("T")
logger = logging.getLogger(__name__)


class Batch:
    """All sequences of one model.

    Args:
        prefiller: Computes prompts.
        decoder: Decodes.
        slots: Where sequences keep their states.
        states: Remembers ends of answers.
        pace: Says how much of prompts to compute between two steps of decoding.
        device: Where all of it is.
        observe: Told about every step.

    Attributes:
        decoder: The running rows.
        nonfinite: Answers that ended because logits were not finite.
        out_of_memory: Answers that ended because the device's memory did not suffice.
        preemptions: Sequences that began again because it did not suffice.
    """

    def __init__(
        self,
        prefiller: Prefiller,
        decoder: Decoder,
        slots: Slots,
        states: StateMemory,
        pace: Pace,
        device: torch.device,
        observe: Callable[[StepStats], None],
    ) -> None:
        self._prefiller = prefiller
        self.decoder = decoder
        self._slots = slots
        self._states = states
        self._observe = observe
        self._device = device
        self._headroom = Headroom(slots.num_slots)
        self._scheduler: Scheduler[Prepared] = Scheduler(slots.num_slots)
        self._pace = pace
        self._beat: Callable[[], None] = lambda: None
        self._goes_on, self._may_go_on = False, True
        self.nonfinite = 0
        self.out_of_memory = 0
        self.preemptions = 0

    def enter(self, beat: Callable[[], None]) -> None:
        """Let the thread take numbers below 1e-38 for zero.

        Recurrences forget exponentially, so such numbers are common, and a CPU is many times slower on them.

        Args:
            beat: Called while pictures are encoded, which may take minutes on a CPU.
        """
        torch.set_flush_denormal(True)
        self._beat = beat

    def add(self, one: Prepared) -> None:
        """Let a prepared job wait for its turn."""
        self._scheduler.add(one)

    @property
    def num_running(self) -> int:
        """Sequences prefilling or decoding."""
        return self._scheduler.num_inside

    @property
    def num_waiting(self) -> int:
        """Sequences that wait."""
        return self._scheduler.num_waiting

    @property
    def max_running(self) -> int:
        """Sequences that may run at once; fewer for a while after the device ran out of memory."""
        return self._headroom.num_sequences

    @property
    def is_idle(self) -> bool:
        """Nobody is here."""
        return not self.num_running and not self.num_waiting

    def step(self) -> None:
        """Go once around.

        Raises:
            torch.AcceleratorError: The device is lost; nothing will run on it in this process again.
        """
        self._sweep([*self._scheduler.waiting(), *self._scheduler.inside()])
        self._admit()
        self._compute_prompts()
        self._decode()

    def abandon(self, error: Exception) -> None:
        """Fail everyone."""
        everyone = [*self._scheduler.waiting(), *self._scheduler.inside()]
        self._scheduler = Scheduler(self.max_running)
        for one in everyone:
            one.forget()
            one.sequence.fail(error)

    def _sweep(self, those: Iterable[Prepared]) -> None:
        """Let go of who hung up or whose time is over."""
        for one in those:
            sequence = one.sequence
            if sequence.is_cancelled:
                sequence.finish_reason = sequence.finish_reason or FinishReason.CANCELLED
                self._leave(one)
            elif sequence.is_expired:
                where = "before its answer was complete" if sequence.is_started else "while it waited in the queue"
                self._leave(one, DeadlineExceeded(f"the request's time was over {where}"))

    def _admit(self) -> None:
        self._scheduler.max_running = self._headroom.num_sequences
        for one in self._scheduler.admit(self._slots.fits):
            one.sequence.start()
            self._guarded([one], partial(self._begin, one))

    def _begin(self, one: Prepared) -> None:
        one.progress = self._prefiller.begin(one.prompt, one.sequence.generated_ids[:-1])
        self._pace.begun(one.prompt.tokens - one.progress.done)

    def _compute_prompts(self) -> None:
        """Encode one load of pictures, or compute pieces of prompts as far as those who decode can wait."""
        allowance = self._pace.allowance(len(self._scheduler.running), self._scheduler.num_prompts)
        while self._pace.suffices(allowance) and (one := self._scheduler.turn()) is not None:
            tokens = self._pace.piece(allowance, one.remaining)
            allowance -= tokens
            if self._guarded([one], partial(self._compute, one, tokens)) is StepKind.PICTURES:
                break

    def _compute(self, one: Prepared, tokens: int) -> StepKind:
        """Encode pictures that a prompt misses, or compute a piece of it; the last one brings the next token."""
        progress = one.progress
        assert progress is not None  # noqa: S101 - admitted
        if self._encode(one, progress):
            return StepKind.PICTURES
        started, before = time.monotonic(), progress.done
        logits = self._prefiller.advance(progress, tokens)
        sequence = one.sequence
        chosen = None
        if logits is None or sequence.generated_ids:
            self._wait()
        else:  # waits for the token
            chosen = self.decoder.first(one.prompt, logits, sequence.job.sampling, sequence.stop_ids)
        seconds = time.monotonic() - started
        self._pace.prefilled(seconds, progress.done - before)
        self._observe(StepStats(StepKind.PREFILL, seconds, 1, progress.done - before))
        if chosen is not None:
            self._push(one, chosen)
        elif logits is not None:
            self.decoder.resume(one.prompt, sequence.generated_ids, sequence.job.sampling, sequence.stop_ids)
        if logits is not None:
            self._run_on(one, progress)
        return StepKind.PREFILL

    def _encode(self, one: Prepared, progress: Progress) -> bool:
        """Encode pictures, if the prompt misses any; who decodes goes on meanwhile, between the tower's layers."""
        beside = () if one.is_second_try else self._scheduler.prefilling
        others = [other.progress for other in beside if other is not one and other.progress]
        started = rested = time.monotonic()
        decoding = 0.0

        def go_on() -> None:
            nonlocal rested, decoding
            self._beat()
            most = self._pace.picture_seconds(len(self._scheduler.running), self._scheduler.num_prompts)
            if math.isinf(most) or not self._goes_on:
                return
            self._wait()
            if (paused := time.monotonic()) - rested >= most:
                self._sweep(list(self._scheduler.running))
                self._decode()
                rested = time.monotonic()
                decoding += rested - paused

        self._goes_on = self._may_go_on
        try:
            count = self._prefiller.encode([progress, *others], go_on)
        finally:
            self._goes_on = False
        if count:
            self._wait()
            self._observe(StepStats(StepKind.PICTURES, time.monotonic() - started - decoding, 1, count))
        return count > 0

    def _wait(self) -> None:
        """Let a GPU do what it was given, which is only queued until then: else whoever waits next pays for it."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _run_on(self, one: Prepared, progress: Progress) -> None:
        """Let a sequence decode, unless its token has ended it."""
        if one.sequence.finish_reason is None:
            self.decoder.insert(one.prompt, progress.cache, one.adapter_id, one.need, len(progress.answer))
            self._scheduler.run(one)
            one.progress = None
        else:
            self._leave(one)

    def _decode(self) -> None:
        runs = list(self.decoder.runs())[::-1]  # whoever leaves is replaced from behind
        running = self._scheduler.running
        if runs and all(self._decode_run(running[first:end], first, end) for first, end in runs):
            self._headroom.went_well(self.num_running)  # else rows may have moved: who is left waits for the next step
        for one in [one for one in self._scheduler.running if one.sequence.finish_reason is not None]:
            self._leave(one)

    def _decode_run(self, rows: Sequence[Prepared], first: int, end: int) -> bool:
        """Decode one token for some rows; False if that failed."""
        started = time.monotonic()
        chosen = self._guarded(rows, partial(self.decoder.step, first, end))
        if chosen is None:
            return False
        seconds = time.monotonic() - started
        self._pace.decoded(seconds)
        self._observe(StepStats(StepKind.DECODE, seconds, len(rows), len(rows)))
        for one, choice in zip(rows, chosen, strict=True):
            self._guarded([one], partial(self._push, one, choice))
        return True

    def _push(self, one: Prepared, chosen: Chosen) -> None:
        if not chosen.is_finite:
            self.nonfinite += 1
            raise EngineFailed("the model produced NaN or infinity; the answer would be noise")
        one.sequence.push(chosen.token_id, chosen.logprob)

    def _leave(self, one: Prepared, error: Exception | None = None) -> None:
        """Let a sequence go, wherever it is, with an answer or an error."""
        if error is None and one.sequence.finish_reason is FinishReason.STOP:
            self._remember(one)
        self._take_out(one, is_clean=error is None)
        one.forget()
        if error is None:
            one.sequence.finish()
        else:
            one.sequence.fail(error)

    def _take_out(self, one: Prepared, *, is_clean: bool) -> None:
        """Free a sequence's place, wherever it is."""
        if one not in self._scheduler.running:
            self._scheduler.remove(one)
            return
        row = self._scheduler.running.index(one)
        self.decoder.remove(row, is_clean=is_clean)
        last = self._scheduler.running.pop()
        if last is not one:
            self._scheduler.running[row] = last

    def _remember(self, one: Prepared) -> None:
        """Keep the end of an answer for the next turn, if there is memory for it."""
        if one.prompt.names is None or one not in self._scheduler.running:
            return
        row = self._scheduler.running.index(one)
        names = one.prompt.names.followed_by(one.sequence.generated_ids[:-1], one.prompt.offset)
        self._states.keep(names, len(names), partial(self.decoder.extract, row))

    def _guarded(self, those: Sequence[Prepared], compute: Callable[[], T]) -> T | None:
        """Compute something for sequences; None if it fails: whatever it raises is about them alone."""
        is_out_of_memory = False
        try:
            return compute()
        except torch.AcceleratorError:
            raise  # the device is lost for all
        except torch.OutOfMemoryError:
            is_out_of_memory = True
        except ServiceError as error:
            self._fail(those, error)
        except Exception as error:  # the boundary: a step's exception ends its sequences, not the engine
            failure = EngineFailed(f"generation failed with {type(error).__name__}")
            failure.__cause__ = error
            self._fail(those, failure)
        if is_out_of_memory:  # not inside the handler: there the traceback still holds the step's tensors
            self._make_room(those)
        return None

    def _fail(self, those: Sequence[Prepared], error: Exception) -> None:
        for one in self._lost_with(those):
            self._leave(one, error)

    def _lost_with(self, those: Sequence[Prepared]) -> Sequence[Prepared]:
        """Return whose states are lost where a computation for some breaks off: all rows, if it cut the slots."""
        return those if self._slots.is_whole else [*those, *self._scheduler.running]

    def _make_room(self, those: Sequence[Prepared]) -> None:
        """Where memory ran out, give back what is remembered, and preempt: sequences begin again, fewer at once.

        Preempted are those of the step, which broke off half way, and the one that was too much: the prompt that was
        computed, or the last one that is, or who came in last. If it was too much before, it ends. A step beside the
        encoding of pictures was too much itself: nobody is to blame, and nobody decodes beside pictures any more.
        """
        preempted = set(self._lost_with(those))
        num_inside = self.num_running
        if self._goes_on:
            self._goes_on = self._may_go_on = False
            self._states.forget()  # not the pictures' features, for which it would all begin anew
        else:
            self._prefiller.forget()
            last = self._last(those)
            if num_inside > 1:
                self._headroom.ran_out(num_inside)
            preempted.add(last)
            if last.is_second_try:
                preempted.remove(last)
                self.out_of_memory += 1
                self._leave(last, OutOfMemory(_does_not_fit(last, num_inside - 1)))
            last.is_second_try = True
        for one in sorted(preempted, key=_age, reverse=True):  # whoever came first goes first again
            self._take_out(one, is_clean=False)
            one.progress = None
            self._scheduler.put_back(one)
        self.preemptions += len(preempted)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        what = "the device's memory ran out with %d requests inside: %d begin again, at most %d are inside from now on"
        logger.warning(what, num_inside, len(preempted), self.max_running)

    def _last(self, those: Sequence[Prepared]) -> Prepared:
        """Return whom the memory was too little for in a step: prompts take it as they go, rows have theirs already."""
        prompts = self._scheduler.prefilling
        if those[0] in prompts:
            return those[0]
        return max(prompts or (one for one in self._scheduler.running if one.sequence.finish_reason is None), key=_age)


def _age(one: Prepared) -> float:
    return one.sequence.started_at


def _does_not_fit(one: Prepared, others: int) -> str:
    beside = f" beside {others} others" if others else ""
    return (
        f"the device has too little memory for a prompt of {one.prompt.tokens} tokens{beside}; "
        "send smaller or fewer pictures, or a shorter prompt"
    )
