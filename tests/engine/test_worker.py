"""One thread, a bounded queue, and an end that tells everybody."""

import threading
import time
from collections.abc import Callable

import pytest

from service.engine.worker import Worker
from service.errors import EngineFailed, Overloaded


class Jobs:
    """Runs callables, one a step, each as often as it returns true; notes who was failed."""

    max_running = 1

    def __init__(self) -> None:
        self.jobs: list[Callable[[], object]] = []
        self.failed: list[Exception] = []

    def enter(self, beat: Callable[[], None]) -> None:
        self.entered, self.beat = threading.get_ident(), beat

    @property
    def num_running(self) -> int:
        return min(len(self.jobs), 1)

    @property
    def num_waiting(self) -> int:
        return max(len(self.jobs) - 1, 0)

    def add(self, one: Callable[[], object]) -> None:
        self.jobs.append(one)

    def step(self) -> None:
        if not self.jobs[0]():
            self.jobs.pop(0)

    def abandon(self, error: Exception) -> None:
        self.failed += [error] * len(self.jobs)
        self.jobs.clear()


def started(max_waiting: int) -> tuple[Worker[Callable[[], object]], Jobs]:
    jobs = Jobs()
    worker = Worker(jobs, max_waiting)
    worker.start()
    return worker, jobs


def blocked(worker: Worker[Callable[[], object]]) -> threading.Event:
    """Give the worker a step that lasts until the returned event is set."""
    running, release = threading.Event(), threading.Event()

    def last() -> None:
        running.set()
        release.wait(10)

    worker.submit(last)
    assert running.wait(5)
    return release


def test_jobs_run_in_order_of_arrival_on_one_thread_as_many_steps_as_they_need() -> None:
    (worker, jobs), seen, done = started(10), [], threading.Event()
    for number in range(5):
        left = iter([True, False])
        worker.submit(lambda number=number, left=left: seen.append((number, threading.get_ident())) or next(left))
    worker.submit(done.set)
    assert done.wait(5)
    assert [number for number, _ in seen] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert {thread for _, thread in seen} == {jobs.entered}


def test_a_full_queue_refuses_at_once_and_an_idle_worker_takes_one_even_without_a_queue() -> None:
    worker, _ = started(1)
    release = blocked(worker)
    worker.submit(bool)
    with pytest.raises(Overloaded, match=r"1 requests wait already; the limit is 1") as refusal:
        worker.submit(bool)
    assert refusal.value.retry_after_seconds
    release.set()
    none, _ = started(0)
    blocked(none).set()


def test_what_is_being_prepared_counts_as_waiting() -> None:
    worker, _ = started(2)
    release = blocked(worker)
    worker.check_room(1)
    with pytest.raises(Overloaded, match="2 requests wait"):
        worker.check_room(2)
    release.set()


def test_stopping_fails_who_is_left_and_refuses_what_comes() -> None:
    worker, jobs = started(2)
    release = blocked(worker)
    worker.submit(bool)
    worker.stop()
    release.set()
    worker.join(5)
    assert [type(one) for one in jobs.failed] == [EngineFailed]
    with pytest.raises(EngineFailed):
        worker.submit(bool)


def test_a_thread_that_dies_tells_everybody_and_is_seen_as_dead() -> None:
    worker, jobs = started(2)
    release = threading.Event()

    def die() -> None:
        release.wait(5)
        raise MemoryError

    worker.submit(die)
    worker.submit(bool)
    release.set()
    worker.join(5)
    assert not worker.is_alive
    assert [str(one) for one in jobs.failed] == ["the engine died: MemoryError"] * 2


def test_an_idle_worker_goes_on_giving_signs_of_life() -> None:
    worker, _ = started(1)
    first = worker.heartbeat
    deadline = time.monotonic() + 5
    while worker.heartbeat == first and time.monotonic() < deadline:
        time.sleep(0.05)
    assert worker.heartbeat > first


def test_a_long_step_may_say_that_it_lives() -> None:
    worker, jobs = started(1)
    found: list[float] = []

    def long() -> None:
        for _ in range(3):
            time.sleep(0.02)
            jobs.beat()
            found.append(worker.heartbeat)
        done.set()

    done = threading.Event()
    worker.submit(long)
    assert done.wait(5)
    assert found[0] < found[1] < found[2]
