"""Who runs next: purely counts and turns.

Knows no tensor and no model. Waiting sequences take turns by adapter; those whose prompts are being computed take turns
by piece; nobody overtakes a sequence that waits for memory, so that long ones come too.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

MAX_PREFILLING = 4
"""Prompts computed side by side, so that a short one need not wait for a long one."""


class Schedulable(Protocol):
    """A sequence as the scheduler sees it."""

    @property
    def adapter_id(self) -> str | None:
        """Who answers."""

    @property
    def need(self) -> int:
        """Tokens of prompt and longest answer together."""

    @property
    def is_second_try(self) -> bool:
        """Its prompt must be computed beside no other prompt."""


S = TypeVar("S", bound=Schedulable)


class Scheduler(Generic[S]):
    """Three places: waiting, prefilling, running.

    Args:
        max_running: Sequences that may be prefilling or running at once; may be changed later.

    Attributes:
        prefilling: Whose prompts are being computed, next first.
        running: Who is decoding, by row.
    """

    def __init__(self, max_running: int) -> None:
        self.max_running = max_running
        self.prefilling: deque[S] = deque()
        self.running: list[S] = []
        self._waiting: OrderedDict[str | None, deque[S]] = OrderedDict()

    def add(self, one: S) -> None:
        """Let a sequence wait."""
        self._waiting.setdefault(one.adapter_id, deque()).append(one)

    def remove(self, one: S) -> None:
        """Forget a sequence that waits or prefills; the caller keeps rows dense itself."""
        queue = self._waiting.get(one.adapter_id)
        if queue and one in queue:
            queue.remove(one)
            if not queue:
                del self._waiting[one.adapter_id]
        elif one in self.prefilling:
            self.prefilling.remove(one)

    def admit(self, fits: Callable[[Sequence[int]], bool]) -> list[S]:
        """Move who may begin from waiting to prefilling, one adapter after the other.

        Args:
            fits: Says whether sequences of these needs fit the memory together.
        """
        admitted = []
        while self._waiting and len(self.prefilling) < MAX_PREFILLING and self.num_inside < self.max_running:
            adapter_id, queue = next(iter(self._waiting.items()))
            if not fits([*(one.need for one in self.inside()), queue[0].need]):
                break
            if self.prefilling and any(one.is_second_try for one in (queue[0], *self.prefilling)):
                break
            one = queue.popleft()
            self._waiting.move_to_end(adapter_id)
            if not queue:
                del self._waiting[adapter_id]
            self.prefilling.append(one)
            admitted.append(one)
        return admitted

    def turn(self) -> S | None:
        """Return whose prompt is computed next, and put it last in turn; None if there is nobody."""
        if not self.prefilling:
            return None
        self.prefilling.rotate(-1)
        return self.prefilling[-1]

    def run(self, one: S) -> None:
        """Move a sequence whose prompt is computed into the next row."""
        self.prefilling.remove(one)
        self.running.append(one)

    def put_back(self, one: S) -> None:
        """Let a preempted sequence, which is inside no more, wait for its turn before all others."""
        self._waiting.setdefault(one.adapter_id, deque()).appendleft(one)
        self._waiting.move_to_end(one.adapter_id, last=False)

    def waiting(self) -> Iterator[S]:
        """Iterate over who waits."""
        for queue in self._waiting.values():
            yield from queue

    def inside(self) -> Iterator[S]:
        """Iterate over who has a place in memory."""
        yield from self.running
        yield from self.prefilling

    @property
    def num_waiting(self) -> int:
        """Sequences that wait."""
        return sum(map(len, self._waiting.values()))

    @property
    def num_prompts(self) -> int:
        """Sequences whose prompts are being computed, or may be as soon as others are."""
        return len(self.prefilling) + min(self.num_waiting, max(0, self.max_running - self.num_inside))

    @property
    def num_inside(self) -> int:
        """Sequences that have a place in memory."""
        return len(self.running) + len(self.prefilling)
