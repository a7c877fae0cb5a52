"""One thread, a bounded queue, and an end that tells everybody."""

import threading
import time

import pytest

from service.engine.worker import Work, Worker
from service.errors import EngineFailed, Overloaded


def started(max_waiting: int) -> Worker:
    worker = Worker(max_waiting)
    worker.start()
    return worker


def blocked(worker: Worker) -> threading.Event:
    """Give the worker something that lasts until the returned event is set."""
    running, release = threading.Event(), threading.Event()

    def last() -> None:
        running.set()
        release.wait(10)

    worker.submit(Work(last, print))
    assert running.wait(5)
    return release


def test_work_runs_in_order_of_arrival_on_one_thread() -> None:
    worker, seen, done = started(10), [], threading.Event()
    for number in range(5):
        worker.submit(Work(lambda number=number: seen.append((number, threading.get_ident())), print))
    worker.submit(Work(done.set, print))
    assert done.wait(5)
    assert [number for number, _ in seen] == [0, 1, 2, 3, 4]
    assert len({thread for _, thread in seen}) == 1


def test_a_full_queue_refuses_at_once_and_an_idle_worker_takes_one_even_without_a_queue() -> None:
    worker = started(1)
    release = blocked(worker)
    worker.submit(Work(lambda: None, print))
    with pytest.raises(Overloaded, match="1 requests wait") as refusal:
        worker.submit(Work(lambda: None, print))
    assert refusal.value.retry_after_seconds
    release.set()
    none = started(0)
    blocked(none).set()


def test_work_that_waits_can_be_taken_back_once() -> None:
    worker = started(2)
    release = blocked(worker)
    ran = threading.Event()
    work = Work(ran.set, print)
    worker.submit(work)
    assert worker.withdraw(work)
    assert not worker.withdraw(work)
    release.set()
    assert not ran.wait(0.2)


def test_stopping_abandons_what_waits_and_refuses_what_comes() -> None:
    worker, told = started(2), []
    release = blocked(worker)
    worker.submit(Work(lambda: told.append("ran"), told.append))
    worker.stop()
    release.set()
    worker.join(5)
    assert [type(one) for one in told] == [EngineFailed]
    with pytest.raises(EngineFailed):
        worker.submit(Work(lambda: None, print))


def test_a_thread_that_dies_tells_those_who_wait_and_is_seen_as_dead() -> None:
    worker, told = started(2), []
    release = threading.Event()

    def die() -> None:
        release.wait(5)
        raise MemoryError

    worker.submit(Work(die, print))
    worker.submit(Work(print, told.append))
    release.set()
    worker.join(5)
    assert not worker.is_alive
    assert [type(one) for one in told] == [EngineFailed]


def test_an_idle_worker_goes_on_giving_signs_of_life() -> None:
    worker = started(1)
    first = worker.heartbeat
    deadline = time.monotonic() + 5
    while worker.heartbeat == first and time.monotonic() < deadline:
        time.sleep(0.05)
    assert worker.heartbeat > first
