"""Compares the tensors of a tuned folder with those of the folder that it was made from.

Reads both piece by piece and computes only where bytes differ. Does not know what may have changed.
"""

import math
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from service.checkpoint.adapter import BaseReading
from service.checkpoint.neurons import strange_share
from service.checkpoint.pairing import pair_names
from service.checkpoint.rearrangement import rearrangement
from service.checkpoint.same_function import same_function
from service.checkpoint.vocabulary import EMBEDDING_SUFFIXES, HEAD_SUFFIXES, turn
from service.checkpoint.weights import FloatArray, WeightFiles
from service.domain.facts import MatrixFacts, OriginFacts, TensorChange

WORKERS = 2
MAX_SAMPLE, BLOCKS, MIN_BLOCK = 2048, 8, 32
"""Rows that stand for all, the stretches that they are parted into, and the rows that one needs."""
ALIKE = 0.1
"""Turn up to which no part of a matrix can be another."""
STEPS = {"F64": 2**-24, "F32": 2**-22, "F16": 2**-10, "BF16": 2**-7}
"""What rounding, or cutting, to a type changes at most, relative to a value: one unit in the last place."""
SMALLEST = {"F64": 0.0, "F32": 1e-45, "F16": 2**-24, "BF16": 1e-40}
"""What it changes at most close to zero, where a type's steps no longer shrink."""
GLANCE = 4096
"""Values of a piece that tell whether it was trained."""
VOCABULARY = (*EMBEDDING_SUFFIXES, *HEAD_SUFFIXES)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Tensors of two folders, side by side.

    Attributes:
        pairs: The tuned name of each of the origin's tensors that the tuned folder has.
        changed: Pairs that differ, by the origin's name.
        num_equal: Pairs that do not.
        reshaped: Pairs of different shapes, by the origin's name, origin's shape first.
    """

    pairs: Mapping[str, str]
    changed: Mapping[str, TensorChange]
    num_equal: int
    reshaped: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]


def compare(origin: WeightFiles, tuned: WeightFiles) -> Comparison:
    """Compare all tensors of two folders."""
    pairs = pair_names(shapes(origin), shapes(tuned))
    with ThreadPoolExecutor(WORKERS) as pool:  # numpy computes outside the interpreter's lock
        changes = dict(
            zip(pairs, pool.map(lambda one: change(origin, one[0], tuned, one[1]), pairs.items()), strict=True)
        )
    reshaped = {
        old: (origin.tensors[old].shape, tuned.tensors[new].shape)
        for old, new in pairs.items()
        if origin.tensors[old].shape != tuned.tensors[new].shape
    }
    return Comparison(
        pairs=pairs,
        changed={name: one for name, one in changes.items() if one is not None},
        num_equal=sum(one is None for name, one in changes.items() if name not in reshaped),
        reshaped=reshaped,
    )


def origin_facts(origin: BaseReading, tuned: BaseReading, comparison: Comparison) -> OriginFacts:
    """Describe what tuning changed, by the tuned folder's names; missing tensors by the origin's."""
    pairs = comparison.pairs
    taken = set(pairs.values())
    return OriginFacts(
        base=origin.facts,
        num_equal=comparison.num_equal,
        changed={pairs[name]: one for name, one in comparison.changed.items()},
        missing=tuple(sorted(origin.weights.tensors.keys() - pairs.keys())),
        extra=tuple(sorted(tuned.weights.tensors.keys() - taken)),
        reshaped={pairs[name]: one for name, one in comparison.reshaped.items()},
        embedding_turns=_row_turns(origin, tuned, origin.facts.embedding, tuned.facts.embedding),
        head_turns=_row_turns(
            origin,
            tuned,
            origin.facts.head or origin.facts.embedding,
            tuned.facts.head or tuned.facts.embedding,
        ),
        strangest_blocks={
            new.tensor: _strangest_block(origin, tuned, old, new)
            for old, new in ((origin.facts.embedding, tuned.facts.embedding), (origin.facts.head, tuned.facts.head))
            if old and new and old.hidden_size == new.hidden_size and old.tensor in comparison.changed
        },
        same=same_function(
            origin.weights, tuned.weights, pairs, comparison.changed, origin.facts.documents.get("config.json", {})
        ),
    )


def change(origin: WeightFiles, old: str, tuned: WeightFiles, new: str) -> TensorChange | None:
    """Compare two tensors; None if they are the same up to a cast.

    Of matrices with different numbers of rows the common ones are compared. Values of types that are not read here,
    such as packed integers, are compared as bytes, and a difference counts as a full turn.
    """
    before, after = origin.tensors[old], tuned.tensors[new]
    if not (origin.is_float(old) and tuned.is_float(new)):
        pairs = zip(origin.raw_pieces(old), tuned.raw_pieces(new), strict=False)
        is_same = before == after or (before.shape, before.dtype) == (after.shape, after.dtype)
        return None if is_same and all(a == b for a, b in pairs) else TensorChange(1.0, 1.0)
    if before.shape[1:] != after.shape[1:] or len(before.shape) != len(after.shape):
        return None  # no value corresponds to another; the shapes are told apart
    count = min(math.prod(before.shape), math.prod(after.shape))
    stored = zip(origin.pieces(old, 0, count), tuned.pieces(new, 0, count), strict=True)
    is_cast = before.dtype != after.dtype
    if not is_cast and all(np.array_equal(a.view(np.uint8), b.view(np.uint8)) for a, b in stored):
        return None
    sums = _Sums(*_tolerance(before.dtype, after.dtype) if is_cast else (0.0, 0.0))
    for one, other in zip(origin.float_pieces(old, 0, count), tuned.float_pieces(new, 0, count), strict=True):
        sums.add(one, other)
    found = sums.change()
    if found and found.is_finite:
        found = replace(found, rearranged=rearrangement(origin, old, tuned, new))
    if found and found.turn > ALIKE and before.shape == after.shape and len(before.shape) == 2:
        return replace(found, strange_share=_strange_share(origin, old, tuned, new))
    return found


def _strange_share(origin: WeightFiles, old: str, tuned: WeightFiles, new: str) -> float:
    """Weigh the rows, or some that stand for all, that point elsewhere than the rows that they replace."""
    num_rows = origin.tensors[old].shape[0]
    ids = list(range(0, num_rows, max(1, num_rows // MAX_SAMPLE)))
    return strange_share(origin.rows(old, ids), tuned.rows(new, ids))


def shapes(weights: WeightFiles) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor, by name."""
    return {name: one.shape for name, one in weights.tensors.items()}


class _Sums:
    """Sums over two tensors that are given piece by piece.

    Args:
        step: Relative difference that counts as none.
        smallest: Absolute difference that counts as none.
    """

    def __init__(self, step: float, smallest: float) -> None:
        self._step, self._smallest = step, smallest
        self._is_equal, self._is_rounding, self._is_finite, self._is_cut = True, True, True, True
        self._num_cut = self._num_values = 0
        self._old = self._new = self._product = self._difference = 0.0
        self._old_value, self._new_value = _OneValue(), _OneValue()

    def add(self, old: FloatArray, new: FloatArray) -> None:
        """Add a piece of both, flat and of equal length."""
        self._old_value.add(old)
        self._new_value.add(new)
        with np.errstate(over="ignore", invalid="ignore"):
            difference = np.subtract(new, old)
        self._num_values += len(new)
        if not math.isfinite(_dot(difference, difference)):
            self._is_finite = self._is_finite and bool(np.isfinite(new).all())
            self._is_equal = self._is_rounding = self._is_cut = False
            is_usable = np.isfinite(old) & np.isfinite(new)
            old, new = np.where(is_usable, old, np.float32(0)), np.where(is_usable, new, np.float32(0))
            difference = new - old
        if self._is_cut:
            self._cut(difference, old, new)
        if self._is_equal:
            self._is_equal = _is_within(difference, old, self._step, self._smallest)
        if self._is_rounding:
            self._is_rounding = _is_within(difference, old, STEPS["BF16"], SMALLEST["F16"])
        self._old += _dot(old, old)
        self._new += _dot(new, new)
        self._product += _dot(old, new)
        self._difference += _dot(difference, difference)

    def _cut(self, difference: FloatArray, old: FloatArray, new: FloatArray) -> None:
        """Count values that became zero, as long as nothing else did anything; trained ones are told at once."""
        for part in (slice(0, GLANCE), slice(None)):
            kept = new[part] != 0
            if not (kept <= _within(difference[part], old[part], self._step, self._smallest)).all():
                self._is_cut = False
                return
        self._num_cut += int(np.count_nonzero(~kept & (old != 0)))

    def change(self) -> TensorChange | None:
        """Return what differs, or None for nothing."""
        if self._is_equal:
            return None
        relative = math.sqrt(self._difference / self._old) if self._old else 1.0
        lengths = math.sqrt(self._old) * math.sqrt(self._new)
        turned = 1.0 - self._product / lengths if lengths else float(bool(self._old or self._new))
        length = math.sqrt(self._new / self._old) if self._old else 1.0
        is_reset = self._new_value.is_one and not self._old_value.is_one
        is_zero = self._old == 0
        cut = self._num_cut / self._num_values if self._is_cut and self._num_values else 0.0
        return TensorChange(
            relative, max(0.0, turned), self._is_finite, is_zero, self._is_rounding, length, is_reset, cut=cut
        )


class _OneValue:
    """Whether all pieces of a tensor hold one and the same value."""

    def __init__(self) -> None:
        self.is_one = True
        self._value: np.float32 | None = None

    def add(self, piece: FloatArray) -> None:
        if self.is_one and len(piece):
            self._value = piece[0] if self._value is None else self._value
            self.is_one = bool(piece[0] == self._value and piece[-1] == self._value and (piece == self._value).all())


def _is_within(difference: FloatArray, old: FloatArray, step: float, smallest: float) -> bool:
    return bool(_within(difference, old, step, smallest).all())


def _within(difference: FloatArray, old: FloatArray, step: float, smallest: float) -> NDArray[np.bool_]:
    limit = np.abs(old)
    limit *= np.float32(step)
    limit += np.float32(smallest)
    is_within: NDArray[np.bool_] = np.abs(difference) <= limit
    return is_within


def _dot(left: FloatArray, right: FloatArray) -> float:
    """Multiply in float32, and again in float64 if that overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        quick = float(np.dot(left, right))
    return quick if math.isfinite(quick) else float(left.astype(np.float64) @ right.astype(np.float64))


def _tolerance(old: str, new: str) -> tuple[float, float]:
    """Return what casting from one type to the other may change; both ways round, as either can be the narrower."""
    return max(STEPS[old], STEPS[new]), max(SMALLEST[old], SMALLEST[new])


def _strangest_block(origin: BaseReading, tuned: BaseReading, old: MatrixFacts, new: MatrixFacts) -> float:
    """Return how far those rows turned that turned most, of several stretches of ids, without what all rows share.

    Rows of other tokens resemble one another by the mean of all rows; only what is left tells them apart.
    """
    known = [1 + one.facts.tokenizer.max_id for one in (origin, tuned) if one.facts.tokenizer]
    count = min(old.num_rows, new.num_rows, *known)
    ids = list(range(0, count, max(1, count // MAX_SAMPLE)))
    before, after = origin.weights.rows(old.tensor, ids), tuned.weights.rows(new.tensor, ids)
    is_usable = np.isfinite(before).all(axis=1) & np.isfinite(after).all(axis=1)
    is_usable &= before.any(axis=1) & after.any(axis=1)
    before, after = before[is_usable], after[is_usable]
    if len(before) < BLOCKS * MIN_BLOCK:
        return 0.0
    before, after = before - before.mean(axis=0), after - after.mean(axis=0)
    pairs = zip(np.array_split(before, BLOCKS), np.array_split(after, BLOCKS), strict=True)
    return max(turn(one.ravel(), other.ravel()) for one, other in pairs)


def _row_turns(
    origin: BaseReading, tuned: BaseReading, old: MatrixFacts | None, new: MatrixFacts | None
) -> dict[int, float]:
    if old is None or new is None or old.hidden_size != new.hidden_size:
        return {}
    ids = sorted(one for one in new.rows if one < min(old.num_rows, new.num_rows))
    return dict(
        zip(ids, _turns(origin.weights.rows(old.tensor, ids), tuned.weights.rows(new.tensor, ids)), strict=True)
    )


def _turns(old: Iterable[NDArray[np.float32]], new: Iterable[NDArray[np.float32]]) -> list[float]:
    return [turn(before, after) for before, after in zip(old, new, strict=True)]
