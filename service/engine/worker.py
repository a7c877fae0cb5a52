"""The one thread that owns the device: jobs in through a bounded queue, one step of the batch after the other.

Knows no model and no request.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from service.errors import EngineFailed, Overloaded

IDLE_SECONDS = 1.0
"""How often an idle thread says that it lives."""
T_contra = TypeVar("T_contra", contravariant=True)


class Steps(Protocol[T_contra]):
    """What the thread runs."""

    @property
    def num_running(self) -> int:
        """Jobs being computed."""

    @property
    def num_waiting(self) -> int:
        """Jobs that wait inside."""

    @property
    def max_running(self) -> int:
        """Jobs that may be computed at once."""

    def enter(self, beat: Callable[[], None]) -> None:
        """Prepare the thread; called once, on it.

        Args:
            beat: Says that the thread lives, in the middle of what takes long.
        """

    def add(self, one: T_contra) -> None:
        """Take a job."""

    def step(self) -> None:
        """Go on with all of them for a moment; an exception ends the thread."""

    def abandon(self, error: Exception) -> None:
        """Fail all of them."""


T = TypeVar("T")


class Worker(Generic[T]):
    """Runs steps as long as there are jobs.

    Args:
        steps: What to run; touched by the worker's thread alone once it runs.
        max_waiting: Jobs that may wait beside those that are computed; one more is refused.
    """

    def __init__(self, steps: Steps[T], max_waiting: int) -> None:
        self._steps = steps
        self._max_waiting = max_waiting
        self._inbox: deque[T] = deque()
        self._changed = threading.Condition()
        self._is_stopping = False
        self._error: BaseException | None = None
        self._beat_at = time.time()
        self._thread = threading.Thread(target=self._loop, name="engine", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, one: T) -> None:
        """Queue a job; never blocks.

        Raises:
            Overloaded: As much waits as may.
            EngineFailed: The thread is dead or stopping.
        """
        with self._changed:
            if self._is_stopping or not self.is_alive:
                raise EngineFailed("the engine does not run")
            self.check_room()
            self._inbox.append(one)
            self._changed.notify()

    def check_room(self, num_coming: int = 0) -> None:
        """Refuse what would wait beyond the limit.

        Args:
            num_coming: Jobs that are being prepared, and have a place already.

        Raises:
            Overloaded: As much waits as may.
        """
        num_inside = self._steps.num_running + self.num_waiting + num_coming
        if num_inside >= self._steps.max_running + self._max_waiting:
            raise Overloaded(
                f"{num_inside - self._steps.max_running} requests wait already; the limit is {self._max_waiting} "
                "(MINICPM_MAX_WAITING)",
                retry_after_seconds=1,
            )

    def wake(self) -> None:
        """Let the thread look at what changed; may be called from any thread."""
        with self._changed:
            self._changed.notify()

    def stop(self) -> None:
        """End after the step in hand and fail who is left; may be called from any thread, returns at once."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()

    def join(self, timeout_seconds: float) -> None:
        """Wait for the thread to end."""
        self._thread.join(timeout_seconds)

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
        """Jobs in the queue."""
        return len(self._inbox) + self._steps.num_waiting

    def _loop(self) -> None:
        reason: Exception = EngineFailed("the service is shutting down")
        try:
            self._steps.enter(self._beat)
            while self._take():
                self._steps.step()
        except BaseException as error:
            self._error = error
            reason = EngineFailed(f"the engine died: {type(error).__name__}")
            reason.__cause__ = error
        with self._changed:
            self._is_stopping = True
            self._move()
        self._steps.abandon(reason)

    def _take(self) -> bool:
        """Take what came in, and wait for something if there is nothing; return whether to go on."""
        with self._changed:
            self._beat()
            self._move()
            while not self._is_stopping and not self._steps.num_running and not self._steps.num_waiting:
                self._changed.wait(IDLE_SECONDS)
                self._beat()
                self._move()
            return not self._is_stopping

    def _beat(self) -> None:
        self._beat_at = time.time()

    def _move(self) -> None:
        while self._inbox:
            self._steps.add(self._inbox.popleft())
