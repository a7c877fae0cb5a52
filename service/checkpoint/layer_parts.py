"""Puts a part of a layer of two folders side by side: what both compute, and what is left of a change of its matrices.

Reads samples. Does not look for what was taken from one tensor into the next; it is told.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from service.checkpoint.blocks import Block
from service.checkpoint.neurons import Order, strange_share
from service.checkpoint.weights import FloatArray, WeightFiles
from service.domain.facts import TensorChange

SAMPLE, CHUNK_ROWS = 128, 1024
LARGEST, SMALLEST, MOST = 64.0, 1e-20, 1e6


@dataclass(frozen=True, slots=True)
class Scale:
    """What a norm does to each channel, `(hidden,)` each."""

    factors: FloatArray
    bias: FloatArray


class Side:
    """One folder's tensors, by the origin's names."""

    def __init__(self, weights: WeightFiles, names: Mapping[str, str]) -> None:
        self._weights, self._names = weights, names

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape."""
        return self._weights.tensors[self._names[name]].shape

    def is_matrix(self, name: str) -> bool:
        """Say whether there is such a matrix of floats."""
        return name in self._names and self._weights.is_matrix(self._names[name])

    def is_vector(self, name: str) -> bool:
        """Say whether there is such a vector of floats."""
        own = self._names.get(name)
        return own is not None and self._weights.is_float(own) and len(self._weights.tensors[own].shape) == 1

    def vector(self, name: str) -> FloatArray | None:
        """Read a vector; None if there is none."""
        return _finite(self._weights.values(self._names[name])) if self.is_vector(name) else None

    def scale(self, norm: str, *, adds_one: bool) -> Scale:
        """Read what a norm does, from its weight and bias."""
        weight = _finite(self._weights.values(self._names[norm]))
        bias = self.vector(norm.replace(".weight", ".bias"))
        return Scale(
            weight + np.float32(adds_one), np.zeros_like(weight) if bias is None or len(bias) != len(weight) else bias
        )

    def rows(self, name: str, ids: Iterable[int]) -> FloatArray:
        """Read some rows of a matrix."""
        return _finite(self._weights.rows(self._names[name], [int(one) for one in ids]))

    def computed(self, name: str, ids: Order, scale: Scale) -> FloatArray:
        """Return what rows do to the input of their norm, `(rows, hidden + 1)`; the last column is added to it."""
        rows = self.rows(name, ids)
        added = rows @ scale.bias
        bias = self.vector(name.replace(".weight", ".bias"))
        if bias is not None and len(bias) == self.shape(name)[0]:
            added = added + bias[ids]
        return np.hstack([rows * scale.factors, added[:, None]])


@dataclass(frozen=True, slots=True)
class Shift:
    """What became of a norm's factors.

    Attributes:
        old: The origin's.
        new: The tuned folder's.
        ratio: What each channel's factor was multiplied by, `(hidden,)`, signs left out.
        strength: Root mean square of the logarithm of the ratio, channels weighed by their factors.
    """

    old: Scale
    new: Scale
    ratio: FloatArray
    strength: float


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a layer in both folders.

    Attributes:
        block: What it consists of.
        before: The origin's tensors.
        after: The tuned folder's.
        changed: What changed, by the origin's names.
        shift: What became of its norm.
    """

    block: Block
    before: Side
    after: Side
    changed: Mapping[str, TensorChange]
    shift: Shift


@dataclass(frozen=True, slots=True)
class Taken:
    """What tensors of a part took from one another, so that it counts as no change.

    Attributes:
        places: Where each neuron stood in the origin; None: where it stands.
        factors: By what each row of the linear matrix was multiplied and the last one's columns divided; None if they
            were not.
    """

    places: Order | None = None
    factors: FloatArray | None = None

    def old_ids(self, ids: Order) -> Order:
        """Return where the origin has some rows of the readers."""
        return ids if self.places is None else self.places[ids]

    def of_rows(self, part: Part, name: str) -> FloatArray:
        """Return by what each row of a reader was multiplied, `(rows,)`."""
        if self.factors is not None and name == part.block.linear:
            return self.factors
        return np.ones(part.before.shape(name)[0], dtype=np.float32)

    def of_columns(self, part: Part) -> FloatArray:
        """Return by what each column of the last matrix was divided, `(columns,)`."""
        width = part.before.shape(part.block.last)[1]
        if self.factors is None:
            return np.ones(width, dtype=np.float32)
        if len(self.factors) == width:
            return self.factors
        shared = self.factors.reshape(-1, part.block.head_size)  # by key head, each of which several query heads read
        columns: FloatArray = shared.repeat(width // len(self.factors), axis=0).ravel()
        return columns


def read_part(block: Block, before: Side, after: Side, changed: Mapping[str, TensorChange]) -> Part:
    """Read both norms of a part whose tensors have the same shapes."""
    old, new = (side.scale(block.norm, adds_one=block.adds_one) for side in (before, after))
    ratio = _ratio(old.factors, new.factors)
    return Part(block, before, after, changed, Shift(old, new, ratio, _strength(old.factors, new.factors, ratio)))


def left(part: Part, name: str, taken: Taken) -> TensorChange:
    """Compare what both folders compute with a sample of a matrix's rows, but for what was taken.

    Args:
        part: Whose matrix it is.
        name: The origin's name of the matrix.
        taken: What counts as no change.
    """
    ids = sample(part.before.shape(name)[0])
    if name == part.block.last:
        old, new = part.before.rows(name, ids), part.after.rows(name, ids)
        old = old if taken.places is None else old[:, taken.places]
        new = new * taken.of_columns(part)
    else:
        old = part.before.computed(name, taken.old_ids(ids), part.shift.old)
        new = part.after.computed(name, ids, part.shift.new) / taken.of_rows(part, name)[ids, None]
    return _change(part.changed.get(name), old, new)


def relative(old: FloatArray, new: FloatArray) -> float:
    """Return the length of the difference over that of the old values; 1 if these are zero."""
    length = float(np.linalg.norm(old))
    return float(np.linalg.norm(new - old)) / length if length else 1.0


def sample(count: int) -> Order:
    """Choose at most `SAMPLE` of so many rows, spread over all."""
    return np.arange(0, count, max(1, -(-count // SAMPLE)), dtype=np.intp)


def chunks(count: int) -> Iterable[Order]:
    """Part so many rows into stretches of at most `CHUNK_ROWS`."""
    return np.split(np.arange(count, dtype=np.intp), range(CHUNK_ROWS, count, CHUNK_ROWS))


def _ratio(old: FloatArray, new: FloatArray) -> FloatArray:
    large = np.maximum(np.abs(new), SMALLEST) / np.maximum(np.abs(old), SMALLEST)
    ratio: FloatArray = np.clip(large, 1 / LARGEST, LARGEST)
    return ratio


def _strength(old: FloatArray, new: FloatArray, ratio: FloatArray) -> float:
    """Weigh channels by their factors: those near zero move far by little."""
    weights = np.square(np.maximum(np.abs(old), np.abs(new)), dtype=np.float64)
    total = float(weights.sum())
    return math.sqrt(float(weights @ np.square(np.log(ratio))) / total) if total else 0.0


def _change(own: TensorChange | None, old: FloatArray, new: FloatArray) -> TensorChange:
    lengths = float(np.linalg.norm(old)), float(np.linalg.norm(new))
    product = float(np.vdot(old, new))
    turn = 1.0 - product / (lengths[0] * lengths[1]) if all(lengths) else float(any(lengths))
    length = lengths[1] / lengths[0] if lengths[0] else 1.0
    return replace(
        own or TensorChange(0.0, 0.0),
        relative=relative(old, new),
        turn=max(0.0, turn),
        length=length,
        strange_share=strange_share(old, new),
        is_reset=False,
    )


def _finite(values: FloatArray) -> FloatArray:
    """Keep squares and their sums in the range of float32."""
    finite: FloatArray = np.clip(np.nan_to_num(values, posinf=0.0, neginf=0.0), -MOST, MOST)
    return finite
