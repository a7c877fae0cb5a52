"""Whatever else runs, every answer's tokens are those of the model's own `generate`, run alone, in float32.

Random schedules: arrivals, lengths, pictures, adapters, cancellations, pieces of prompts, rows, and memory so small
that what is remembered is soon forgotten.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jobs import ask, greedy
from taping import Tapes

from service.demo import demo_root
from service.demo.drawing import Scene, draw
from service.domain.generation import Event, Failure, FinishReason, Generation, Job, Message, PictureRef
from service.domain.stats import StepKind
from service.engine import assembly
from service.engine.assembly import Parts, assemble
from service.engine.loading import LoadedModel, LoadPlan, load
from service.engine.pace import Pace
from service.engine.prepared import Prepared
from service.engine.preparing import Preparer
from service.errors import OutOfMemory
from tests.engine import odd_adapters

MAX_STEPS = 4000
CIRCLE = draw(Scene("red", "circle", 1, "top left", 1))
STARS = draw(Scene("blue", "star", 2, "center", 5), (300, 200))
TALL = draw(Scene("green", "square", 1, "bottom right", 3), (96, 260))
LONG = "Some words about figures and their colours, places and numbers. 一些关于图形、颜色、位置和数量的话。" * 6
SYSTEM = Message("system", ("You describe drawings. 你描述图画。" * 8,))


def conversation(*turns: Message | str, pictures: tuple[Any, ...] = (), **more: Any) -> Job:
    """A job of several turns: plain strings are the user's, and the first one has the pictures."""
    job = ask("", *pictures, **more)
    references = tuple(PictureRef(index) for index in range(len(pictures)))
    messages = []
    for turn in turns:
        messages.append(Message("user", (*references, turn)) if isinstance(turn, str) else turn)
        references = () if isinstance(turn, str) else references
    return Job(job.job_id, tuple(messages), job.pictures, job.adapter_id, job.sampling, job.deadline)


def assistant(text: str) -> Message:
    return Message("assistant", (text,))


def jobs() -> list[Job]:
    """Make jobs that differ in everything, and share beginnings and pictures."""
    what = "What is in the picture?"
    found = []
    for adapter in (None, "json", "tokens", "official", *odd_adapters.MAKERS):
        found += [
            ask(what, CIRCLE, adapter=adapter),
            ask("图里有什么？", STARS, adapter=adapter),
            conversation(SYSTEM, what, pictures=(CIRCLE,), adapter=adapter),
            conversation(SYSTEM, "Hello, 你好", adapter=adapter, sampling=greedy(12)),
        ]
    found += [
        ask(LONG, sampling=greedy(9)),
        ask(LONG + "!", STARS, CIRCLE, TALL, sampling=greedy(14)),
        conversation(what, assistant("a red circle at the top left"), "How many?", pictures=(CIRCLE,)),
        conversation(SYSTEM, LONG, assistant("Yes."), "So?", sampling=greedy(11)),
        ask(what, TALL, sampling=greedy(1)),
        ask("x", sampling=greedy(2)),
    ]
    return found


JOBS = jobs()


@dataclass
class Arrival:
    """One request of a schedule: what, when, and when its client hangs up."""

    job: int
    step: int
    hangs_up_after: int | None
    events: list[Event] = field(default_factory=list)
    prepared: Prepared | None = None


@dataclass(repr=False)
class World:
    """A loaded model and what it answers alone; with a short name for hypothesis."""

    loaded: LoadedModel
    known: dict[int, list[int]] = field(default_factory=dict)
    num_preempted: int = 0

    def alone(self, index: int) -> list[int]:
        """Return a job's tokens by the model's own `generate`."""
        if index not in self.known:
            job = JOBS[index]
            view = self.loaded.view(job.adapter_id)
            encoded = view.encoder.encode(job.messages, job.pictures)
            with torch.inference_mode():
                ids = view.model.generate(
                    **encoded.tensors, max_new_tokens=job.sampling.max_new_tokens, do_sample=False, use_cache=True
                )
            self.known[index] = ids[0, len(encoded.prompt_ids) :].tolist()
        return self.known[index]

    def need(self, index: int) -> int:
        """Return the tokens of a job's prompt and longest answer."""
        job = JOBS[index]
        encoded = self.loaded.view(job.adapter_id).encoder.encode(job.messages, job.pictures)
        return len(encoded.prompt_ids) + (job.sampling.max_new_tokens or 0)


@pytest.fixture(scope="module")
def world(plan_of: Callable[..., LoadPlan], tmp_path_factory: pytest.TempPathFactory) -> World:
    folders = {name: demo_root() / "adapters" / name for name in ("json", "tokens", "official")}
    folders |= odd_adapters.make_all(tmp_path_factory.mktemp("odd"))
    return World(load(plan_of(demo_root() / "base", adapters=folders)))


@pytest.fixture(scope="module")
def warm(world: World) -> Parts:
    """Parts that all schedules share, so that later ones find what earlier ones left."""
    return assemble(world.loaded, 8, 64e6, lambda step: None, largest_piece=64)


def run(world: World, parts: Parts, arrivals: list[Arrival]) -> None:
    """Run a schedule to its end, and hang up when it says so."""
    preparer = Preparer(world.loaded, parts.slots.max_tokens, 512)
    coming = sorted(arrivals, key=lambda one: one.step)
    for step in range(MAX_STEPS):
        while coming and coming[0].step <= step:
            one = coming.pop(0)
            job = replace(JOBS[one.job], deadline=time.monotonic() + 600)
            one.prepared = preparer.prepare(job, one.events.append, time.monotonic())
            parts.batch.add(one.prepared)
        for one in arrivals:
            if one.prepared and one.hangs_up_after is not None and step >= one.step + one.hangs_up_after:
                one.prepared.sequence.cancel()
        if parts.batch.is_idle and not coming:
            return
        parts.batch.step()
    pytest.fail(f"not done after {MAX_STEPS} steps")


def check(world: World, arrivals: list[Arrival]) -> None:
    """Hold every answer to what the model says alone; a cancelled one to its beginning."""
    for one in arrivals:
        assert one.prepared is not None
        last = one.events[-1]
        assert isinstance(last, Generation), last
        expected, got = world.alone(one.job), one.prepared.sequence.generated_ids
        if last.finish_reason is FinishReason.CANCELLED:
            assert one.hangs_up_after is not None
            assert got == expected[: len(got)]
        else:
            assert got == expected, JOBS[one.job].adapter_id


ARRIVAL = st.builds(
    Arrival,
    job=st.integers(0, len(JOBS) - 1),
    step=st.integers(0, 30),
    hangs_up_after=st.one_of(st.none(), st.none(), st.integers(0, 25)),
)
SCHEDULES = st.lists(ARRIVAL, min_size=1, max_size=12)
QUIET = settings(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)


@pytest.mark.timeout(400)
@given(arrivals=SCHEDULES)
@settings(QUIET, max_examples=160)
def test_any_schedule_gives_everyone_the_tokens_of_generate(arrivals: list[Arrival], world: World, warm: Parts) -> None:
    run(world, warm, arrivals)
    check(world, arrivals)


@pytest.mark.timeout(400)
@given(
    arrivals=SCHEDULES,
    max_running=st.integers(1, 6),
    piece=st.sampled_from([1, 17, 64, 128, 512]),
    memory=st.sampled_from([0.8e6, 2e6, 8e6, 64e6]),
)
@settings(QUIET, max_examples=60)
def test_rows_pieces_and_memory_do_not_change_the_tokens(
    arrivals: list[Arrival], max_running: int, piece: int, memory: float, world: World
) -> None:
    parts = assemble(world.loaded, max_running, memory, lambda step: None, largest_piece=piece)
    fitting = [one for one in arrivals if world.need(one.job) <= parts.slots.max_tokens]
    run(world, parts, fitting)
    check(world, fitting)


@dataclass(repr=False)
class Replaying:
    """Parts whose decode steps are recorded and replayed; with a short name for hypothesis."""

    tapes: Tapes
    parts: Parts


@pytest.fixture(scope="module")
def replaying(world: World) -> Replaying:
    tapes = Tapes()
    parts = assemble(world.loaded, 8, 8e6, lambda step: None, largest_piece=64, recorder=tapes)
    assert tapes.num_replayed > 0  # of the base and of each adapter, to prove it
    return Replaying(tapes, parts)


@pytest.mark.timeout(400)
@given(arrivals=SCHEDULES)
@settings(QUIET, max_examples=60)
def test_replayed_steps_do_not_change_the_tokens(arrivals: list[Arrival], world: World, replaying: Replaying) -> None:
    fitting = [one for one in arrivals if world.need(one.job) <= replaying.parts.slots.max_tokens]
    run(world, replaying.parts, fitting)
    check(world, fitting)


class Impatient(Pace):
    """Lets those who decode go on before every layer of the vision tower."""

    def picture_seconds(self, num_decoding: int, num_prompts: int) -> float:
        return 0.0 if num_decoding else super().picture_seconds(num_decoding, num_prompts)


@pytest.mark.timeout(400)
@given(arrivals=SCHEDULES)
@settings(QUIET, max_examples=40)
def test_decoding_while_pictures_are_encoded_does_not_change_the_tokens(arrivals: list[Arrival], world: World) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assembly, "Pace", Impatient)
        parts = assemble(world.loaded, 8, 8e6, lambda step: None, largest_piece=64)
    fitting = [one for one in arrivals if world.need(one.job) <= parts.slots.max_tokens]
    run(world, parts, fitting)
    check(world, fitting)


@contextmanager
def short_of_memory(parts: Parts, moments: set[int]) -> Iterator[None]:
    """Let the device's memory run out at some of the calls of some modules of the base, counted together."""
    model = parts.batch.decoder.tree
    layers = model.get_decoder().layers
    modules = [layers[0], layers[-1], model.get_output_embeddings(), model.base_model.vision_tower.encoder.layers[1]]
    calls = itertools.count()

    def hook(*_: Any) -> None:
        if next(calls) in moments:
            raise torch.OutOfMemoryError("no memory")

    with ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_pre_hook(hook).remove)
        yield


@pytest.mark.timeout(400)
@given(arrivals=SCHEDULES, moments=st.sets(st.integers(0, 150), min_size=3, max_size=10))
@settings(QUIET, max_examples=60)
def test_who_is_computed_again_for_lack_of_memory_has_the_same_tokens(
    arrivals: list[Arrival], moments: set[int], world: World
) -> None:
    parts = assemble(world.loaded, 8, 8e6, lambda step: None, largest_piece=64)
    fitting = [one for one in arrivals if world.need(one.job) <= parts.slots.max_tokens]
    with short_of_memory(parts, moments):
        run(world, parts, fitting)
    failed = [one for one in fitting if isinstance(one.events[-1], Failure)]
    check(world, [one for one in fitting if one not in failed])
    for one in failed:
        assert one.prepared is not None
        assert isinstance(one.events[-1].error, OutOfMemory)  # type: ignore[union-attr]
        got = one.prepared.sequence.generated_ids
        assert got == world.alone(one.job)[: len(got)]
    assert len(failed) == parts.batch.out_of_memory <= len(moments)
    world.num_preempted += parts.batch.preemptions


def test_whoever_decodes_goes_on_while_a_picture_is_encoded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "Pace", Impatient)
    seen: list[StepKind] = []
    parts = assemble(world.loaded, 8, 8e6, lambda step: seen.append(step.kind), largest_piece=64)
    arrivals = [Arrival(len(JOBS) - 6, 0, None), Arrival(0, 8, None)]  # a long text, then a picture
    beats: list[StepKind] = []
    monkeypatch.setattr(parts.batch, "_beat", lambda: beats.append(seen[-1]))
    run(world, parts, arrivals)
    check(world, arrivals)
    assert len(beats) >= 4
    assert set(beats) == {StepKind.DECODE}
    place = seen.index(StepKind.PICTURES)
    assert seen[place - 4 : place] == [StepKind.DECODE] * 4  # the demo's tower has four layers


def test_a_gpu_is_waited_for_before_it_is_asked_how_long_something_took(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[torch.device] = []
    seen: list[StepKind] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waits.append)
    parts = assemble(world.loaded, 8, 8e6, lambda step: seen.append(step.kind), largest_piece=64)
    parts.batch._device = torch.device("cuda")
    long = len(JOBS) - 6
    run(world, parts, [Arrival(long, 0, None)])
    assert len(waits) == seen.count(StepKind.PREFILL) - 1 > 1  # the last piece brings a token, which waits itself
    waits.clear()
    seen.clear()
    run(world, parts, [Arrival(0, 0, None)])  # nobody decodes while its picture is encoded
    assert len(waits) == seen.count(StepKind.PREFILL) - 1 + seen.count(StepKind.PICTURES)
    waits.clear()
    seen.clear()
    run(world, parts, [Arrival(long + 5, 0, None), Arrival(long + 1, 0, None), Arrival(long - 7, 0, None)])
    assert len(waits) >= seen.count(StepKind.PREFILL) - 3 + seen.count(StepKind.PICTURES) + 4  # layers of the tower


def test_schedules_really_replayed_steps(replaying: Replaying) -> None:
    recordings = replaying.parts.batch.decoder.recordings
    assert recordings is not None
    assert recordings.are_on
    assert replaying.tapes.num_replayed > 500
    assert replaying.tapes.num_recorded < 100


def test_schedules_really_ran_out_of_memory(world: World) -> None:
    assert world.num_preempted > 100


def test_schedules_really_met_beginnings_and_pictures_again(warm: Parts) -> None:
    assert warm.states.hit_tokens > 1000
    assert warm.features.hits > 100
    assert warm.batch.nonfinite == warm.batch.out_of_memory == 0
