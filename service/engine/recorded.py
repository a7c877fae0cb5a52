"""Replays decode steps: on a GPU a step is many small kernels, and starting them one by one costs more than they do.

Knows no model and no row: what is recorded is a function of tensors that stay where they are.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch

KEPT = 64
"""Recordings; the one that was not used for longest makes room."""

Compute = Callable[[], torch.Tensor]
logger = logging.getLogger(__name__)


class Recorder(Protocol):
    """Turns a computation into one that can be repeated."""

    def record(self, compute: Compute) -> Compute:
        """Return what computes the same from what its tensors hold by then, into the same tensor each time.

        Raises:
            Exception: The computation cannot be recorded; kernels' own compilers raise what they like.
        """


class CudaGraphs:
    """Records CUDA graphs, which share one pool of memory. Recording computes nothing.

    Source: torch.cuda.graph. What a step reads from tensors on the CPU, or decides there, stays as it was recorded.

    Args:
        device: Where the steps run. Left to itself, torch records what the thread's current device does, which is the
            first one in every thread, and a graph without kernels repeats its first answer forever.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: Any = None
        self._pool: Any = None

    def record(self, compute: Compute) -> Compute:
        """Capture a graph."""
        with torch.cuda.device(self._device):
            self._stream = self._stream or torch.cuda.Stream()  # type: ignore[no-untyped-call]
            graph = torch.cuda.CUDAGraph()
            back = torch.cuda.stream(torch.cuda.current_stream())  # torch stays on its own where a capture fails
            with back, torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                output = compute()
        self._pool = graph.pool()
        return partial(_replay, graph, output)


def _replay(graph: Any, output: torch.Tensor) -> torch.Tensor:
    graph.replay()
    return output


def recorder_for(device: torch.device) -> Recorder | None:
    """Return what records on a device; None where nothing does."""
    return CudaGraphs(device) if device.type == "cuda" else None


@dataclass(slots=True)
class _Recording:
    """One shape of a step; `replay` is None until it is met again."""

    held: object
    replay: Compute | None = None


class Recordings:
    """Steps by shape: computed when a shape is met first, recorded when it is met again, replayed from then on.

    The first time warms up what a recording must not contain, such as the choice of kernels. Once the memory for one
    has run out, the recordings that there are stay, and other shapes are computed.

    Args:
        recorder: See there.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder: Recorder | None = recorder
        self._has_room = True
        self._known: OrderedDict[Hashable, _Recording] = OrderedDict()

    @property
    def are_on(self) -> bool:
        """Nothing has shown that this model's steps cannot be recorded."""
        return self._recorder is not None

    def run(self, shape: Hashable, held: object, compute: Compute) -> torch.Tensor:
        """Do a step.

        Args:
            shape: All that the computation depends on beside its tensors.
            held: Has tensors that only this shape's computation reads; another one means another recording.
            compute: The step.
        """
        if self._recorder is None:
            return compute()
        known = self._known.get(shape)
        if known is None or known.held is not held:
            self._known.pop(shape, None)
            if self._has_room:
                self._known[shape] = _Recording(held)
                self._known.move_to_end(shape)
                if len(self._known) > KEPT:
                    self._known.popitem(last=False)
            return compute()
        self._known.move_to_end(shape)
        if known.replay is None and self._has_room:
            known.replay = self._record(self._recorder, compute)
        return known.replay() if known.replay else compute()

    def _record(self, recorder: Recorder, compute: Compute) -> Compute | None:
        """Return what repeats a step, or None where it can only be computed."""
        try:
            return recorder.record(compute)
        except torch.OutOfMemoryError:
            self._has_room = False
            logger.warning("no more decode steps are recorded for replay: the device has too little memory for them")
        except Exception as error:  # whatever it is, the step can still be computed
            self.give_up(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
        return None

    def give_up(self, why: str) -> None:
        """Compute every step from now on."""
        logger.warning("decode steps are computed one kernel at a time, not replayed: %s", why)
        self._recorder = None
        self._known.clear()
