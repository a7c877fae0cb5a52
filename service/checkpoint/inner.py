"""Looks for NaN, infinity and zero in every tensor but the vocabulary matrices, which are measured row by row.

Knows one tensor's purpose, that of decays, whose spread it tells.

Folders of up to 2 GB are read whole; of larger ones every tensor's first, last and every
sixteenth stretch, which shows what spoils a tensor and not what spoils a few of its values.
"""

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.checkpoint.weights import WeightFiles
from service.domain.facts import InnerFacts

WHOLE_BYTES = 2_000_000_000
STRETCH_VALUES, EVERY_VALUES = 65_536, 1_048_576
DECAY = ".A_log"
"""A number for each head of Gated DeltaNet; a layer has a few dozen."""
EXPONENT = {"BF16": 0x7F80, "F16": 0x7C00, "F32": 0x7F800000, "F64": 0x7FF0000000000000}
"""The bits that are all set in NaN and infinity, and in no other number."""
SIGN = {"BF16": 0x8000, "F16": 0x8000, "F32": 0x80000000, "F64": 0x8000000000000000}
AS_BITS = {"BF16": "<u2", "F16": "<u2", "F32": "<u4", "F64": "<u8"}


def inner_values(weights: WeightFiles, others: Collection[str | None]) -> InnerFacts:
    """Read the tensors of a folder.

    Args:
        weights: The tensors.
        others: Names of those to leave out.
    """
    names = [name for name in weights.tensors if name not in others and weights.is_float(name)]
    is_whole = sum(weights.num_bytes(name) for name in names) <= WHOLE_BYTES
    nonfinite, all_zero = [], []
    for name in names:
        is_finite, is_zero = _look_at(weights, name, is_whole=is_whole)
        if not is_finite:
            nonfinite.append(name)
        elif is_zero:
            all_zero.append(name)
    decays = {
        name: _spread(weights, name)
        for name in names
        if name.endswith(DECAY) and name not in nonfinite and weights.num_values(name)
    }
    return InnerFacts(tuple(sorted(nonfinite)), tuple(sorted(all_zero)), decays)


def _spread(weights: WeightFiles, name: str) -> tuple[float, float, float]:
    values = weights.values(name)
    return float(values.min()), float(np.median(values)), float(values.max())


def _look_at(weights: WeightFiles, name: str, *, is_whole: bool) -> tuple[bool, bool]:
    """Say whether all values are finite, and whether there are values and all of them are zero."""
    dtype = weights.tensors[name].dtype
    is_zero, is_any = True, False
    for piece in _pieces(weights, name, is_whole=is_whole):
        bits = piece.view(AS_BITS[dtype])
        exponent = bits.dtype.type(EXPONENT[dtype])
        if ((bits & exponent) == exponent).any():
            return False, False
        is_any = is_any or piece.size > 0
        is_zero = is_zero and not (bits & ~bits.dtype.type(SIGN[dtype])).any()
    return True, is_any and is_zero


def _pieces(weights: WeightFiles, name: str, *, is_whole: bool) -> Iterator[NDArray[Any]]:
    count = weights.num_values(name)
    if is_whole or count <= EVERY_VALUES:
        yield from weights.pieces(name)
        return
    for start in [*range(0, count, EVERY_VALUES), count - STRETCH_VALUES]:
        yield from weights.pieces(name, start, min(start + STRETCH_VALUES, count))
