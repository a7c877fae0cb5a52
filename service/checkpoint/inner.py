"""Describes every tensor but the vocabulary matrices, which are measured row by row.

Knows no tensor's purpose. Folders of up to 2 GB are read whole; of larger ones every tensor's first, last and every
sixteenth stretch, which shows what spoils a tensor and not what spoils a few of its values.
"""

from collections.abc import Collection, Iterator
from typing import Any

from numpy.typing import NDArray

from service.checkpoint.channels import channel_orders
from service.checkpoint.sampling import sample_tensors
from service.checkpoint.weights import WeightFiles
from service.domain.facts import InnerFacts

WHOLE_BYTES = 2_000_000_000
STRETCH_VALUES, EVERY_VALUES = 65_536, 1_048_576
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
    nonfinite, all_zero, alive = [], [], []
    for name in names:
        is_finite, is_zero = _look_at(weights, name, is_whole=is_whole)
        if not is_finite:
            nonfinite.append(name)
        elif is_zero:
            all_zero.append(name)
        if is_finite and not (is_zero and len(weights.tensors[name].shape) > 1):
            alive.append(name)
    found = sample_tensors(weights, alive)
    return InnerFacts(
        nonfinite=tuple(sorted(nonfinite)),
        all_zero=tuple(sorted(all_zero)),
        vectors=found.vectors,
        samples=found.samples,
        kernels=found.kernels,
        channels=channel_orders(weights, alive),
        repeated=found.repeated,
    )


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
