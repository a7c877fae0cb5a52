"""Records a computation on a CPU as a GPU does: its operations on its tensors, and nothing that Python decided."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READS = frozenset({"_local_scalar_dense", "nonzero", "is_nonzero", "equal"})
"""What makes a CPU wait for a GPU, which no graph may."""


class Tapes:
    """Records on a CPU, and counts what it recorded and replayed."""

    def __init__(self) -> None:
        self.num_recorded = self.num_replayed = 0

    def record(self, compute: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        """Write the operations down; nothing that was there before is changed by that."""
        tape = _Tape()
        try:
            with tape:
                output = compute()
        finally:
            tape.put_back()
        self.num_recorded += 1
        return partial(self._replay, tape, output)

    def _replay(self, tape: "_Tape", output: torch.Tensor) -> torch.Tensor:
        self.num_replayed += 1
        tape.replay()
        return output


class _Tape(TorchDispatchMode):
    """Operations with the very tensors that they read and wrote."""

    def __init__(self) -> None:
        super().__init__()
        self._operations: list[tuple[Any, Any, Any, list[torch.Tensor]]] = []
        self._before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in READS:
            raise RuntimeError(f"operation not permitted while recording: {func}")
        kwargs = kwargs or {}
        self._keep_written(func, args, kwargs)
        output = func(*args, **kwargs)
        self._operations.append((func, args, kwargs, _fresh(output, (args, kwargs))))
        return output

    def replay(self) -> None:
        """Do all of it again, into the same tensors."""
        for func, args, kwargs, made in self._operations:
            again = _fresh(func(*args, **kwargs), (args, kwargs))
            for old, new in zip(made, again, strict=True):
                old.copy_(new)

    def put_back(self) -> None:
        """Undo what recording did to tensors, those of its own aside, which the replay writes anew."""
        for storage, before in self._before.values():
            storage.copy_(before)

    def _keep_written(self, func: Any, args: Any, kwargs: Any) -> None:
        for place, one in enumerate(func._schema.arguments):
            value = args[place] if place < len(args) else kwargs.get(one.name)
            if one.alias_info is not None and one.alias_info.is_write:
                for tensor in _tensors(value):
                    storage = tensor.untyped_storage()
                    self._before.setdefault(storage.data_ptr(), (storage, storage.clone()))


def _fresh(output: Any, inputs: Any) -> list[torch.Tensor]:
    """Return the tensors of an output that are no views of an input."""
    known = {one.untyped_storage().data_ptr() for one in _tensors(inputs)}
    return [one for one in _tensors(output) if one.untyped_storage().data_ptr() not in known]


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [one for one in tree_leaves(tree) if isinstance(one, torch.Tensor)]
