"""Proves a folded base and its plain LoRA by reading both back, tensor by tensor.

Builds no model. Equal tensors give equal answers, as saved modules and trained rows replace the base's own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from service.errors import CheckpointUnreadable
from service.repair.folding import WEIGHTS, ids_of, matrix_of, split, tensors_of
from service.repair.models import weights_of


@dataclass(frozen=True, slots=True)
class FoldProof:
    """What reading back found equal.

    Attributes:
        num_folded: Tensors of the new base that hold the adapter's values.
        num_kept: Those that are the base's, bit for bit.
        num_factors: Tensors of the plain LoRA, all as they were.
        rounding: How far the base's type of numbers moves the adapter's values at most.
    """

    num_folded: int
    num_kept: int
    num_factors: int
    rounding: float


def prove_fold(base: Path, adapter: Path, ids: Mapping[str, tuple[int, ...]], output: Path) -> FoldProof:
    """Compare `output/base` with the base and the adapter, and `output/adapter` with the adapter.

    Args:
        base: The folder.
        adapter: The folder.
        ids: Rows that the adapter trained, by module.
        output: What `fold` wrote.

    Raises:
        CheckpointUnreadable: A tensor is neither the base's nor the adapter's.
    """
    plain, whole, rows = split(tensors_of(adapter / WEIGHTS))
    trained = {matrix_of(key): one for key, one in rows.items()}
    rounding, num_folded, num_kept = 0.0, 0, 0
    for file in sorted({one.file for one in weights_of(base).tensors.values()}):
        with safe_open(base / file, framework="pt") as old, safe_open(output / "base" / file, framework="pt") as new:
            for name in old.keys():  # noqa: SIM118 - not a mapping
                was, stored = old.get_tensor(name), new.get_tensor(name)
                meant = _meant(was, whole.get(name), trained.get(name), ids_of(ids, name))
                _same(name, meant.to(was.dtype), stored)
                if meant is was:
                    num_kept += 1
                else:
                    num_folded += 1
                    rounding = max(rounding, float((meant.float() - stored.float()).abs().max()))
    for key, one in tensors_of(output / "adapter" / WEIGHTS).items():
        _same(key, plain[key], one)
    return FoldProof(num_folded, num_kept, len(plain), rounding)


def _meant(was: Any, whole: Any, rows: Any, ids: tuple[int, ...]) -> Any:
    """Return what a tensor must hold: the base's own if the adapter brings nothing for it."""
    if rows is None:
        return was if whole is None else whole
    filled = (was if whole is None else whole).float().clone()
    filled[list(ids)] = rows.float()
    return filled


def _same(name: str, wanted: Any, stored: Any) -> None:
    if wanted.shape != stored.shape or not torch.equal(_bytes(wanted), _bytes(stored)):
        raise CheckpointUnreadable(f"{name} did not come out as it was meant: nothing was written")


def _bytes(tensor: Any) -> Any:
    """Return the bits of a tensor, by which NaN equals itself."""
    return tensor.contiguous().reshape(-1).view(torch.uint8)
