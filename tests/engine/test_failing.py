"""What fails ends those who were in it, and nobody else, unless memory ran out: then they begin again."""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
import tiny
import torch
from answering import CIRCLE, STARS
from jobs import answer, ask, greedy

from service.demo import demo_root
from service.demo.drawing import Scene, draw
from service.domain.generation import Event, Failure, Generation, Job, Message, TextPiece
from service.domain.stats import StepKind
from service.engine import assembly, headroom
from service.engine.assembly import Parts, assemble
from service.engine.engine import Engine, Limits
from service.engine.loading import LoadedModel, LoadPlan, load
from service.engine.pace import Pace
from service.engine.prepared import Prepared
from service.engine.preparing import Preparer
from service.engine.sampling import Choice, Chosen
from service.engine.slots import BatchedSlots, SeparateSlots
from service.errors import EngineFailed, OutOfMemory

QUESTION = "What is in the picture?"


class Running:
    """A batch that is stepped by hand, and who is in it."""

    def __init__(self, loaded: LoadedModel, *, separate: bool = False) -> None:
        self._kinds: list[StepKind] = []
        with pytest.MonkeyPatch.context() as patch:
            if separate:
                patch.setattr(assembly, "can_batch", lambda example: False)
            self.parts: Parts = assemble(loaded, 8, 32e6, lambda step: self._kinds.append(step.kind), largest_piece=64)
        self._preparer = Preparer(loaded, self.parts.slots.max_tokens, 64)
        self.told: list[list[Event]] = []

    def add(self, text: str = QUESTION, *pictures: Any, **more: Any) -> Prepared:
        return self.ask(ask(text, *pictures, **more))

    def ask(self, job: Job) -> Prepared:
        self.told.append([])
        job = replace(job, deadline=time.monotonic() + 100)
        one = self._preparer.prepare(job, self.told[-1].append, time.monotonic())
        self.parts.batch.add(one)
        return one

    def finish(self) -> list[Event]:
        """Step until nobody is left; return everyone's last event."""
        while not self.parts.batch.is_idle:
            self.parts.batch.step()
        return self.last()

    def last(self) -> list[Event]:
        return [events[-1] for events in self.told]

    def num_encoded(self) -> int:
        """Return how many times pictures were encoded."""
        return self._kinds.count(StepKind.PICTURES)

    def pieces(self) -> list[list[str]]:
        """Return the text that each was sent, piece by piece."""
        return [[event.text for event in events if isinstance(event, TextPiece)] for events in self.told]


@pytest.fixture(scope="module")
def loaded(plan_of: Callable[..., LoadPlan]) -> LoadedModel:
    return load(plan_of(demo_root() / "base", adapters={"json": demo_root() / "adapters" / "json"}))


@contextmanager
def raising(module: Any, error: Exception, when: Callable[[torch.Tensor], bool]) -> Iterator[list[int]]:
    """Raise at the calls of a module whose input says so, as a device would; yields the rows of those calls."""
    rows: list[int] = []

    def hook(_: Any, arguments: tuple[Any, ...]) -> None:
        if when(arguments[0]):
            rows.append(arguments[0].shape[0])
            raise error

    handle = module.register_forward_pre_hook(hook)
    try:
        yield rows
    finally:
        handle.remove()


def decode_tree(running: Running) -> Any:
    return running.parts.batch.decoder.tree


def short_of_memory(loaded: LoadedModel, when: Callable[[torch.Tensor], bool], jobs: Sequence[Job]) -> Running:
    """Run jobs with a device that has no memory for some steps of decoding."""
    running = Running(loaded)
    for job in jobs:
        running.ask(job)
    head = decode_tree(running).get_output_embeddings()
    with raising(head, torch.OutOfMemoryError("no memory"), when):
        running.finish()
    return running


def questions(adapter: str | None = None) -> list[Job]:
    """Return questions with every rule that looks at the answer so far, and with pictures."""
    rules: list[dict[str, Any]] = [
        {"is_logprobs": True},
        {"repetition_penalty": 1.3, "presence_penalty": 0.5},
        {"temperature": 1.0, "seed": 3, "frequency_penalty": 0.4, "min_new_tokens": 12},
        {"temperature": 0.8, "seed": 4, "top_k": 20, "top_p": 0.9},
    ]
    pictures = [(), (CIRCLE,), (), (STARS,)]
    return [
        ask(f"{QUESTION} {number}", *pictures[number], adapter=adapter, sampling=greedy(20 + number, **rule))
        for number, rule in enumerate(rules)
    ]


def told_of(event: Event) -> tuple[object, ...]:
    """Return what a client sees of an answer, but for times and the last digits of logprobs."""
    assert isinstance(event, Generation), event
    logprobs = [round(one.logprob, 3) for one in event.logprobs]
    return event.text, event.finish_reason, event.usage, logprobs


FAMILIES = ["minicpm-v-4.7", "minicpm-v-4.5", "minicpm-ocr", "image-text", "image-text (ernie)", "causal (llama)"]


@pytest.mark.parametrize("family", FAMILIES)
def test_who_lost_a_step_for_lack_of_memory_is_computed_again_and_answers_the_same(
    plan_of: Callable[..., LoadPlan], tmp_path: Path, family: str
) -> None:
    check_computed_again(load(plan_of(tiny.make(family, tmp_path / "model"))))


@pytest.mark.parametrize("adapter", [None, "json"])
def test_the_same_with_an_adapter(loaded: LoadedModel, adapter: str | None) -> None:
    check_computed_again(loaded, adapter)


def check_computed_again(loaded: LoadedModel, adapter: str | None = None) -> None:
    jobs = questions(adapter)
    if not loaded.family.accepts_pictures:
        jobs = [
            replace(one, pictures=(), messages=(Message("user", one.messages[0].content[-1:]),)) for one in questions()
        ]
    ample = short_of_memory(loaded, lambda hidden: False, jobs)
    short = short_of_memory(loaded, lambda hidden: hidden.shape[0] > 2, jobs)
    assert list(map(told_of, short.last())) == list(map(told_of, ample.last()))
    assert short.pieces() == ample.pieces()
    assert short.parts.batch.max_running <= 2
    assert short.parts.batch.preemptions >= 2
    assert short.parts.batch.out_of_memory == 0


def test_the_same_where_every_row_decodes_alone(plan_of: Callable[..., LoadPlan], tmp_path: Path) -> None:
    plan = plan_of(tiny.make("causal (llama)", tmp_path / "model"))
    ample, short = (Running(load(plan), separate=True) for _ in range(2))
    for running in (ample, short):
        for number in range(4):
            running.add(f"{QUESTION} {number}", sampling=greedy(20))
    assert isinstance(short.parts.slots, SeparateSlots)
    calls = itertools.count()
    head = decode_tree(short).get_output_embeddings()
    ample.finish()
    with raising(head, torch.OutOfMemoryError("no memory"), lambda hidden: next(calls) in (6, 13, 22)) as failed:
        short.finish()
    assert len(failed) == 3
    assert list(map(told_of, short.last())) == list(map(told_of, ample.last()))


@pytest.mark.parametrize("family", ["causal (llama)", "minicpm-v-4.7"])
def test_who_has_chosen_a_token_that_nobody_was_told_chooses_it_again(
    plan_of: Callable[..., LoadPlan], tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load(plan_of(tiny.make(family, tmp_path / "model")))
    jobs = [replace(one, pictures=(), messages=(Message("user", one.messages[0].content[-1:]),)) for one in questions()]
    ample, fetch, calls = short_of_memory(loaded, lambda hidden: False, jobs), Choice.fetch, itertools.count()

    def fetch_or_raise(choice: Choice) -> list[Chosen]:
        if next(calls) in (8, 15):
            raise torch.OutOfMemoryError("no memory")
        return fetch(choice)

    monkeypatch.setattr(Choice, "fetch", fetch_or_raise)
    short = short_of_memory(loaded, lambda hidden: False, jobs)
    assert short.parts.batch.preemptions >= 2
    assert list(map(told_of, short.last())) == list(map(told_of, ample.last()))
    assert short.pieces() == ample.pieces()


def test_rows_whose_slots_were_cut_half_way_begin_again(loaded: LoadedModel) -> None:
    ample = short_of_memory(loaded, lambda hidden: False, questions())
    running = Running(loaded)
    for job in questions():
        running.ask(job)
    slots = running.parts.slots
    assert isinstance(slots, BatchedSlots)
    last = slots._layers[-1]
    calls, cut = itertools.count(), last.cut  # type: ignore[union-attr]

    def cut_or_raise(*arguments: int) -> None:
        if next(calls) == 1:
            raise torch.OutOfMemoryError("no memory")
        cut(*arguments)

    last.cut = cut_or_raise  # type: ignore[method-assign, union-attr]
    while len(running.parts.batch.decoder) < 3:
        running.parts.batch.step()
    running.add("a question that comes later " * 40, sampling=greedy(9))  # needs longer rows
    last_events = running.finish()
    assert running.parts.batch.preemptions >= 3
    assert list(map(told_of, last_events[:4])) == list(map(told_of, ample.last()))
    assert isinstance(last_events[4], Generation)


def test_rows_whose_slots_broke_half_way_for_another_reason_end_all(loaded: LoadedModel) -> None:
    running = Running(loaded)
    for number in range(2):
        running.add(f"{QUESTION} {number}", sampling=greedy(40, min_new_tokens=40))
    while len(running.parts.batch.decoder) < 2:
        running.parts.batch.step()
    slots = running.parts.slots
    assert isinstance(slots, BatchedSlots)
    last = slots._layers[-1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(last, "cut", lambda *_: [][0])
        running.add("a question that comes later " * 40)
        assert [type(event) for event in running.finish()] == [Failure] * 3
    running.add()
    assert isinstance(running.finish()[-1], Generation)


def test_more_are_let_in_again_when_steps_go_well(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headroom, "FIRST_PATIENCE", 5)
    calls = iter([True])
    running = short_of_memory(loaded, lambda hidden: hidden.shape[0] == 4 and next(calls, False), questions())
    assert list(map(type, running.last())) == [Generation] * 4
    assert running.parts.batch.max_running == 4  # three, and one more


def test_who_does_not_fit_alone_is_told_so_and_makes_no_room(loaded: LoadedModel) -> None:
    running = short_of_memory(loaded, lambda hidden: True, [ask("Hello")])
    (last,) = running.last()
    assert isinstance(last, Failure)
    assert isinstance(last.error, OutOfMemory)
    assert "a prompt of 15 tokens; send smaller or fewer pictures" in last.error.detail
    assert running.parts.batch.max_running == 8
    assert (running.parts.batch.preemptions, running.parts.batch.out_of_memory) == (1, 1)


def test_what_is_remembered_makes_room_for_a_request_that_is_alone(loaded: LoadedModel) -> None:
    running = Running(loaded)
    running.add()
    running.finish()
    states = running.parts.states
    assert states.used_bytes > 0
    running.add(f"{QUESTION} again")
    head = decode_tree(running).get_output_embeddings()
    with raising(head, torch.OutOfMemoryError("no memory"), lambda hidden: states.used_bytes > 0) as calls:
        assert isinstance(running.finish()[-1], Generation)
    assert len(calls) == 1


def test_a_prompt_that_does_not_fit_tries_twice_and_ends_alone(loaded: LoadedModel) -> None:
    running = Running(loaded)
    running.add(sampling=greedy(60, min_new_tokens=60))
    one = running.add("a much longer question " * 20)
    embedding = loaded.base.model.get_input_embeddings()
    with raising(embedding, torch.OutOfMemoryError("out of memory"), lambda ids: ids.shape[1] > 25) as calls:
        last = running.finish()
    assert isinstance(last[0], Generation)
    assert isinstance(last[1], Failure)
    assert isinstance(last[1].error, OutOfMemory)
    assert len(calls) == 2
    assert one.progress is None  # whoever asked may hold on to it
    assert one.prompt.tensors == {}
    running.add()
    assert isinstance(running.finish()[-1], Generation)


def test_a_step_beside_pictures_that_finds_no_memory_waits_until_they_are_encoded(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pace, "picture_seconds", lambda *_: 0.0)
    ample = short_of_memory(loaded, lambda hidden: False, questions())
    short = Running(loaded)
    encoding: list[bool] = []
    tower = loaded.base.model.base_model.vision_tower
    handles = [
        tower.register_forward_pre_hook(lambda *_: encoding.append(True)),
        tower.register_forward_hook(lambda *_: encoding.clear()),
    ]
    for job in questions():
        short.ask(job)
    head = decode_tree(short).get_output_embeddings()
    with raising(head, torch.OutOfMemoryError("no memory"), lambda hidden: bool(encoding)) as calls:
        while len(short.parts.batch.decoder) < 4:
            short.parts.batch.step()
        short.add(QUESTION, draw(Scene("green", "square", 1, "bottom right", 3)))
        short.finish()
    for handle in handles:
        handle.remove()
    assert (len(calls), short.num_encoded()) == (1, 2)  # nobody tries it again
    assert list(map(told_of, short.last()[:4])) == list(map(told_of, ample.last()))
    assert short.parts.batch.max_running == 8


def test_memory_that_runs_out_for_a_picture_leaves_it_to_be_encoded_when_there_is_room(loaded: LoadedModel) -> None:
    ample = short_of_memory(loaded, lambda hidden: False, questions())
    running = Running(loaded)
    for job in questions():
        running.ask(job)
    tower = loaded.base.model.base_model.vision_tower
    calls = iter([True])
    with raising(tower, torch.OutOfMemoryError("out of memory"), lambda pixels: next(calls, False)) as rows:
        running.finish()
    assert len(rows) == 1
    assert list(map(told_of, running.last())) == list(map(told_of, ample.last()))


def test_an_exception_in_a_step_ends_the_step_s_sequences_and_not_who_still_prefills(loaded: LoadedModel) -> None:
    running = Running(loaded)
    running.add("one")
    running.add("two")
    while len(running.parts.batch.decoder) < 2:
        running.parts.batch.step()
    running.add("a question that comes later " * 40)
    calls = iter([True])
    head = decode_tree(running).get_output_embeddings()
    with raising(head, ValueError("broken"), lambda hidden: hidden.shape[0] == 2 and next(calls, False)):
        last = running.finish()
    assert [type(event) for event in last] == [Failure, Failure, Generation]
    assert "ValueError" in str(last[0].error)  # type: ignore[union-attr]


def test_logits_that_are_not_finite_end_one_row_and_are_counted(loaded: LoadedModel) -> None:
    running = Running(loaded)
    for number in range(3):
        running.add(f"{QUESTION} {number}", sampling=greedy(20))
    while len(running.parts.batch.decoder) < 3:
        running.parts.batch.step()
    poisoned = iter([True])

    def poison(_: Any, __: Any, logits: torch.Tensor) -> torch.Tensor:
        if logits.shape[0] == 3 and next(poisoned, False):
            logits = logits.clone()
            logits[1, 0, 7] = torch.nan
        return logits

    handle = decode_tree(running).get_output_embeddings().register_forward_hook(poison)
    last = running.finish()
    handle.remove()
    assert [type(event) for event in last] == [Generation, Failure, Generation]
    assert "NaN" in str(last[1].error)  # type: ignore[union-attr]
    assert running.parts.batch.nonfinite == 1


def test_a_lost_device_ends_the_engine_and_tells_everyone(plan_of: Callable[..., LoadPlan]) -> None:
    engine = Engine(load(plan_of(demo_root() / "base")), Limits(8))
    assert answer(engine, ask("Hello"))[1].text
    head = engine._parts.batch.decoder.tree.get_output_embeddings()
    events: list[Queue[Event]] = [Queue(), Queue()]
    with raising(head, torch.AcceleratorError("device lost", 1), lambda hidden: True):
        for one in events:
            engine.submit(engine.prepare(ask("Hello", sampling=greedy(30)), one.put, time.monotonic()))
        for one in events:
            event = one.get(timeout=20)
            while isinstance(event, TextPiece):
                event = one.get(timeout=20)
            assert isinstance(event, Failure)
            assert isinstance(event.error, EngineFailed)
            assert "the engine died: AcceleratorError" in event.error.detail
    assert not engine.is_alive
    with pytest.raises(EngineFailed, match="does not run"):
        engine.submit(engine.prepare(ask("Hello"), print, 0))


def test_a_request_too_large_for_the_memory_is_refused_with_the_setting_s_name(loaded: LoadedModel) -> None:
    from service.errors import PromptTooLong

    parts = assemble(loaded, 4, 400_000, lambda step: None)
    assert parts.slots.max_tokens < 2048
    preparer = Preparer(loaded, parts.slots.max_tokens, 64)
    with pytest.raises(PromptTooLong, match=r"MINICPM_CACHE_MEMORY holds: \d+"):
        preparer.prepare(ask("Hello", sampling=greedy(2000)), print, 0)
