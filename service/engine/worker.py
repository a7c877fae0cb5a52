"""The one thread that owns the device: work in through a bounded queue, one piece at a time.

Knows no model and no request; work is any callable.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from service.errors import EngineFailed, Overloaded

IDLE_SECONDS = 1.0
"""How often an idle thread says that it lives."""


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """A piece of work.

    Attributes:
        run: Does it; must not raise.
        abandon: Called instead of `run` if the worker stops or dies first.
    """

    run: Callable[[], None]
    abandon: Callable[[Exception], None]


class Worker:
    """Runs work in order of arrival.

    Args:
        max_waiting: Work that may wait while other work runs; one more is refused.
    """

    def __init__(self, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self._waiting: deque[Work] = deque()
        self._changed = threading.Condition()
        self._is_running = False
        self._is_stopping = False
        self._error: BaseException | None = None
        self._beat_at = time.time()
        self._thread = threading.Thread(target=self._loop, name="engine", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, work: Work) -> None:
        """Queue a piece of work; never blocks.

        Raises:
            Overloaded: As much waits as may.
            EngineFailed: The thread is dead or stopping.
        """
        with self._changed:
            if self._is_stopping or not self.is_alive:
                raise EngineFailed("the engine does not run")
            is_busy = self._is_running or bool(self._waiting)
            if is_busy and len(self._waiting) >= self._max_waiting:
                raise Overloaded(
                    f"{len(self._waiting)} requests wait already, which is the limit (MINICPM_MAX_WAITING)",
                    retry_after_seconds=1,
                )
            self._waiting.append(work)
            self._changed.notify()

    def withdraw(self, work: Work) -> bool:
        """Take work back that still waits; return whether it did."""
        with self._changed:
            if work not in self._waiting:
                return False
            self._waiting.remove(work)
            return True

    def stop(self) -> None:
        """Abandon what waits and end after the work in hand; may be called from any thread, returns at once."""
        with self._changed:
            self._is_stopping = True
            abandoned = list(self._waiting)
            self._waiting.clear()
            self._changed.notify()
        for work in abandoned:
            work.abandon(EngineFailed("the service is shutting down"))

    def join(self, timeout_seconds: float) -> None:
        """Wait for the thread to end."""
        self._thread.join(timeout_seconds)

    def beat(self) -> None:
        """Say that the thread lives; the work calls it at every step."""
        self._beat_at = time.time()

    @property
    def heartbeat(self) -> float:
        """Unix time of the last sign of life."""
        return self._beat_at

    @property
    def is_alive(self) -> bool:
        """The thread runs."""
        return self._thread.is_alive() and self._error is None

    @property
    def num_waiting(self) -> int:
        """Work in the queue."""
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        """Work in hand: 0 or 1."""
        return int(self._is_running)

    def _loop(self) -> None:
        work: Work | None = None
        try:
            while (work := self._take()) is not None:
                work.run()
                self._is_running = False
        except BaseException as error:
            self._die(error, work)

    def _take(self) -> Work | None:
        with self._changed:
            while not self._waiting and not self._is_stopping:
                self.beat()
                self._changed.wait(IDLE_SECONDS)
            if self._is_stopping:
                return None
            self.beat()
            self._is_running = True
            return self._waiting.popleft()

    def _die(self, error: BaseException, in_hand: Work | None) -> None:
        with self._changed:
            self._error = error
            abandoned = [*([in_hand] if in_hand else []), *self._waiting]
            self._waiting.clear()
            self._is_running = False
        for work in abandoned:
            work.abandon(EngineFailed(f"the engine died: {type(error).__name__}"))
