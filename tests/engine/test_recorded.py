"""When a step is computed, recorded or replayed, and that a device which cannot record computes on.

`test_schedules` holds replayed steps to the tokens of `generate`, `test_gpu` on a GPU.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from jobs import ask, greedy
from taping import Tapes

from service.demo import demo_root
from service.engine import recorded
from service.engine.assembly import Parts, assemble
from service.engine.loading import LoadedModel, LoadPlan, load
from service.engine.preparing import Preparer
from service.engine.recorded import CudaGraphs, Recordings


class Counter:
    """A computation that counts its runs, in a tensor that a replay changes too."""

    def __init__(self) -> None:
        self.count = torch.zeros(())
        self.num_computed = 0

    def __call__(self) -> torch.Tensor:
        self.num_computed += 1
        return self.count.add_(1)


def test_a_shape_is_computed_then_recorded_and_replayed_from_then_on() -> None:
    tapes, step = Tapes(), Counter()
    recordings = Recordings(tapes)
    values = [float(recordings.run("shape", None, step)) for _ in range(4)]
    assert values == [1, 2, 3, 4]
    assert (step.num_computed, tapes.num_recorded, tapes.num_replayed) == (2, 1, 3)


def test_other_tensors_behind_a_shape_are_another_recording() -> None:
    tapes, held = Tapes(), [object(), object()]
    recordings = Recordings(tapes)
    for one in (0, 0, 0, 1, 1, 0):
        recordings.run("shape", held[one], Counter())
    assert (tapes.num_recorded, tapes.num_replayed) == (2, 3)


def test_what_was_not_used_for_longest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "KEPT", 2)
    tapes = Tapes()
    recordings = Recordings(tapes)
    for shape in (1, 1, 2, 2, 1, 3, 3, 1, 2):  # the third makes room of the second's
        recordings.run(shape, None, Counter())
    assert (tapes.num_recorded, tapes.num_replayed) == (3, 5)


def test_what_waits_for_the_device_cannot_be_recorded_and_is_computed_on(caplog: pytest.LogCaptureFixture) -> None:
    recordings = Recordings(Tapes())
    step = lambda: torch.ones(3) * torch.ones(()).item()  # noqa: E731
    with caplog.at_level(logging.WARNING):
        assert all(recordings.run("shape", None, step).tolist() == [1, 1, 1] for _ in range(3))
    assert not recordings.are_on
    assert ["not permitted" in one.message for one in caplog.records] == [True]


class Unable:
    """Raises what a kernel's own compiler may."""

    def record(self, compute: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        raise KeyError("num_warps")


def test_whatever_recording_raises_the_step_is_computed() -> None:
    recordings = Recordings(Unable())
    assert [float(recordings.run("shape", None, lambda: torch.ones(()))) for _ in range(3)] == [1, 1, 1]
    assert not recordings.are_on


class Narrow(Tapes):
    """Has memory for so many recordings."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def record(self, compute: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        if self.num_recorded >= self._most:
            raise torch.OutOfMemoryError("no memory")
        return super().record(compute)


def test_once_the_memory_for_recordings_ran_out_those_there_are_stay(caplog: pytest.LogCaptureFixture) -> None:
    tapes, step = Narrow(2), Counter()
    recordings = Recordings(tapes)
    shapes = (1, 1, 2, 2, 3, 3, 4, 4, 3, 1, 2)
    assert [float(recordings.run(shape, None, step)) for shape in shapes] == [*range(1, 12)]
    assert (tapes.num_recorded, tapes.num_replayed) == (2, 4)
    assert ["too little memory" in one.message for one in caplog.records] == [True]
    assert float(recordings.run(1, object(), step)) == 12  # other tensors: not what was recorded


def test_a_graph_is_captured_on_the_model_s_device(monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[Any] = []

    @contextmanager
    def entering(what: Any, **_: Any) -> Iterator[None]:
        entered.append(what)
        yield
        entered.pop()

    for name in ("device", "stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, entering)
    for name in ("Stream", "current_stream", "CUDAGraph"):
        monkeypatch.setattr(torch.cuda, name, MagicMock())

    def compute() -> torch.Tensor:
        assert entered[0] == torch.device("cuda:1")
        assert len(entered) == 3
        return torch.ones(())

    assert float(CudaGraphs(torch.device("cuda:1")).record(compute)()) == 1
    assert entered == []


class Blurred(Tapes):
    """Records something else than it was given."""

    def record(self, compute: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        replay = super().record(compute)
        return lambda: replay() + 1


class Frozen(Tapes):
    """Gives its first answer forever, as a graph without kernels does."""

    def record(self, compute: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        output = compute()
        return lambda: output


@pytest.fixture(scope="module")
def loaded(plan_of: Callable[..., LoadPlan]) -> LoadedModel:
    return load(plan_of(demo_root() / "base", adapters={"json": demo_root() / "adapters" / "json"}))


def decoded(loaded: LoadedModel, parts: Parts) -> list[int]:
    prepared = Preparer(loaded, parts.slots.max_tokens, 512).prepare(
        ask("Hello", sampling=greedy(5)), lambda _: None, 0
    )
    parts.batch.add(prepared)
    while not parts.batch.is_idle:
        parts.batch.step()
    return prepared.sequence.generated_ids


def test_steps_that_replay_as_something_else_are_computed(
    loaded: LoadedModel, caplog: pytest.LogCaptureFixture
) -> None:
    parts = [assemble(loaded, 4, 8e6, lambda _: None, recorder=one) for one in (None, Tapes(), Blurred(), Frozen())]
    answers = [decoded(loaded, one) for one in parts]
    assert answers == [answers[0]] * 4
    recordings = [one.batch.decoder.recordings for one in parts]
    assert [one is not None and one.are_on for one in recordings] == [False, True, False, False]
    assert "logits differ" in caplog.text


def test_where_nothing_is_replayed_no_row_is_computed_that_nobody_has(loaded: LoadedModel) -> None:
    parts = assemble(loaded, 4, 8e6, lambda _: None, recorder=Blurred())
    rows: set[int] = set()
    head = parts.batch.decoder.tree.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda _, arguments: rows.add(len(arguments[0])))
    preparer = Preparer(loaded, parts.slots.max_tokens, 512)
    for _ in range(3):
        parts.batch.add(preparer.prepare(ask("Hello", sampling=greedy(5)), lambda _: None, 0))
    while not parts.batch.is_idle:
        parts.batch.step()
    hook.remove()
    assert max(rows) == 3


def test_a_long_answer_s_room_is_not_read_before_it_is_needed(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = assemble(loaded, 4, 32e6, lambda _: None, recorder=Tapes())
    widths: list[int] = []
    inner = parts.slots.select
    monkeypatch.setattr(
        parts.slots, "select", lambda first, count, tokens: widths.append(tokens) or inner(first, count, tokens)
    )
    preparer = Preparer(loaded, parts.slots.max_tokens, 512)
    parts.batch.add(preparer.prepare(ask("Hello", sampling=greedy(1000)), lambda _: None, 0))
    while not parts.batch.is_idle:
        parts.batch.step()
    assert parts.slots.capacity >= 1024
    assert max(widths) < 256


def test_a_free_row_is_written_at_its_first_place(loaded: LoadedModel) -> None:
    parts = assemble(loaded, 4, 8e6, lambda _: None, recorder=Tapes())
    decoded(loaded, parts)
    assert not parts.slots.lengths.any()
