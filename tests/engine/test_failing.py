"""What fails ends those who were in it, and nobody else; the engine goes on."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
import tiny
import torch
from jobs import answer, ask, greedy

from service.demo import demo_root
from service.domain.generation import Event, Failure, Generation, TextPiece
from service.engine.assembly import Parts, assemble
from service.engine.batch import Prepared
from service.engine.engine import Engine, Limits
from service.engine.loading import LoadedModel, LoadPlan, load
from service.engine.preparing import Preparer
from service.errors import EngineFailed, OutOfMemory

QUESTION = "What is in the picture?"


class Running:
    """A batch that is stepped by hand, and who is in it."""

    def __init__(self, loaded: LoadedModel, max_running: int = 8) -> None:
        self.parts: Parts = assemble(loaded, max_running, 32e6, lambda step: None, largest_piece=64)
        self._preparer = Preparer(loaded, self.parts.slots.max_tokens, 64)
        self.told: list[list[Event]] = []

    def add(self, text: str = QUESTION, **more: Any) -> Prepared:
        self.told.append([])
        job = replace(ask(text, **more), deadline=time.monotonic() + 100)
        one = self._preparer.prepare(job, self.told[-1].append, time.monotonic())
        self.parts.batch.add(one)
        return one

    def finish(self) -> list[Event]:
        """Step until nobody is left; return everyone's last event."""
        while not self.parts.batch.is_idle:
            self.parts.batch.step()
        return [events[-1] for events in self.told]


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


def short_of_memory(loaded: LoadedModel, largest: int) -> tuple[list[Event], list[Event], Running]:
    """Run four sequences without and with a device that has no memory for more than so many rows."""
    last = []
    for rows in (99, largest):
        running = Running(loaded)
        for number in range(4):
            running.add(f"{QUESTION} {number}")
        head = decode_tree(running).get_output_embeddings()
        with raising(head, torch.OutOfMemoryError("no memory"), lambda hidden, rows=rows: hidden.shape[0] > rows):
            last.append(running.finish())
    return last[0], last[1], running


def test_memory_that_runs_out_in_a_step_ends_the_youngest_and_lets_fewer_in(
    plan_of: Callable[..., LoadPlan], tmp_path: Path
) -> None:
    ample, short, running = short_of_memory(load(plan_of(tiny.make("causal (llama)", tmp_path / "model"))), 2)
    failed = [type(event) is Failure for event in short]
    assert failed == [False, False, True, True]
    assert [event.text for event in short[:2]] == [event.text for event in ample[:2]]  # type: ignore[union-attr]
    assert isinstance(short[3], Failure)
    assert isinstance(short[3].error, OutOfMemory)
    assert "send smaller or fewer pictures" in short[3].error.detail
    assert running.parts.batch.max_running <= 2
    assert running.parts.batch.out_of_memory == 2


def test_a_step_that_moved_recurrent_states_half_way_is_not_done_again(loaded: LoadedModel) -> None:
    ample, short, running = short_of_memory(loaded, 2)
    for whole, event in zip(ample, short, strict=True):
        assert isinstance(event, Failure) or event.text == whole.text  # type: ignore[union-attr]
    assert sum(isinstance(event, Failure) for event in short) >= 3
    assert running.parts.batch.max_running <= 3
    running.add()
    assert isinstance(running.finish()[-1], Generation)


def test_memory_that_runs_out_for_a_prompt_ends_that_one(loaded: LoadedModel) -> None:
    running = Running(loaded)
    running.add()
    running.add("a much longer question " * 20)
    embedding = loaded.base.model.get_input_embeddings()
    with raising(embedding, torch.OutOfMemoryError("out of memory"), lambda ids: ids.shape[1] > 25):
        last = running.finish()
    assert isinstance(last[0], Generation)
    assert isinstance(last[1], Failure)
    assert isinstance(last[1].error, OutOfMemory)
    running.add()
    assert isinstance(running.finish()[-1], Generation)


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
