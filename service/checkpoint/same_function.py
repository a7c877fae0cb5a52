"""Finds changes that several tensors of a layer share, so that the layer computes what it computed.

A scale may move from a norm into all matrices that read it, a factor from the rows of one matrix into the columns of
the next, and neurons may stand in another order. Reads samples, and only of layers of which a norm or a matrix changed
by more than training changes it. Does not know what may have changed.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from service.checkpoint.blocks import Block, blocks
from service.checkpoint.neurons import MIN_NEURONS, Order, match, mean_turn, projection, strange_share, unit
from service.checkpoint.weights import FloatArray, WeightFiles
from service.domain.facts import NeuronOrder, NormShift, Reader, SameFunction, TensorChange

SAMPLE, CHUNK_ROWS = 128, 1024
LEAST_SHIFT = 0.1
"""Root mean square of the logarithm of factors: training moves norms by a few per cent."""
LEAST_RELATIVE = 0.02
"""Relative change of a norm's weight, below which its factors are not looked at."""
ODD_TURN, ODD_LENGTH = 0.1, 1.25
"""Beyond these, a matrix may have been multiplied or put in order."""
OUT_OF_ORDER = 0.3
"""Turn of a matrix, or share of its rows, below which most neurons stand where they stood."""
MOST_FRUITLESS = 4
"""Layers in which no order is found, before no further ones are searched: the folder has another origin."""
LEAST_MOVED = 0.01
"""Of the neurons; a few that resemble one another may be taken for each other."""
FITS = 0.5
"""An order, or factors, must leave less than this share of the difference."""
LARGEST, SMALLEST, MOST = 64.0, 1e-20, 1e6


@dataclass(frozen=True, slots=True)
class _Scale:
    """What a norm does to each channel, `(hidden,)` each."""

    factors: FloatArray
    bias: FloatArray


class _Side:
    """One folder's tensors, by the origin's names."""

    def __init__(self, weights: WeightFiles, names: Mapping[str, str]) -> None:
        self._weights, self._names = weights, names

    def shape(self, name: str) -> tuple[int, ...]:
        return self._weights.tensors[self._names[name]].shape

    def is_matrix(self, name: str) -> bool:
        return name in self._names and self._weights.is_matrix(self._names[name])

    def is_vector(self, name: str) -> bool:
        own = self._names.get(name)
        return own is not None and self._weights.is_float(own) and len(self._weights.tensors[own].shape) == 1

    def vector(self, name: str) -> FloatArray | None:
        return _finite(self._weights.values(self._names[name])) if self.is_vector(name) else None

    def scale(self, norm: str, *, adds_one: bool) -> _Scale:
        weight = _finite(self._weights.values(self._names[norm]))
        bias = self.vector(norm.replace(".weight", ".bias"))
        return _Scale(
            weight + np.float32(adds_one), np.zeros_like(weight) if bias is None or len(bias) != len(weight) else bias
        )

    def rows(self, name: str, ids: Iterable[int]) -> FloatArray:
        return _finite(self._weights.rows(self._names[name], [int(one) for one in ids]))

    def computed(self, name: str, ids: Order, scale: _Scale) -> FloatArray:
        """Return what rows do to the input of their norm, `(rows, hidden + 1)`; the last column is added to it."""
        rows = self.rows(name, ids)
        added = rows @ scale.bias
        bias = self.vector(name.replace(".weight", ".bias"))
        if bias is not None and len(bias) == self.shape(name)[0]:
            added = added + bias[ids]
        return np.hstack([rows * scale.factors, added[:, None]])


def same_function(
    origin: WeightFiles,
    tuned: WeightFiles,
    pairs: Mapping[str, str],
    changed: Mapping[str, TensorChange],
    config: Mapping[str, Any],
) -> SameFunction:
    """Describe what of the changes cancels out, by the tuned folder's names.

    Args:
        origin: The tensors that were tuned.
        tuned: The result.
        pairs: The tuned name of each of the origin's tensors.
        changed: What changed, by the origin's names.
        config: The content of the origin's config.json.
    """
    before, after = _Side(origin, {one: one for one in pairs}), _Side(tuned, pairs)
    norms: dict[str, NormShift] = {}
    undone: dict[str, TensorChange] = {}
    neurons: list[NeuronOrder] = []
    fruitless = 0
    factors: dict[tuple[str, str], tuple[float, float]] = {}
    for block in blocks(pairs, config):
        if not _is_suspicious(block, changed) or not _is_comparable(block, before, after):
            continue
        layer = _Layer(block, before, after, changed, may_search=fruitless < MOST_FRUITLESS)
        fruitless += layer.is_search_fruitless
        if layer.order is not None:
            neurons.append(_named(layer.order, pairs))
        if layer.factors:
            factors[pairs[block.linear], pairs[block.last]] = layer.factors
        undone |= {pairs[name]: one for name, one in layer.undone().items()}
        if layer.shift > LEAST_SHIFT or (block.norm in changed and changed[block.norm].is_reset):
            norms[pairs[block.norm]] = layer.norm(pairs)
    return SameFunction(norms, tuple(neurons), undone, factors)


def _is_suspicious(block: Block, changed: Mapping[str, TensorChange]) -> bool:
    norm = changed.get(block.norm)
    return (norm is not None and norm.is_finite and norm.relative > LEAST_RELATIVE) or any(
        _is_odd(changed.get(one)) for one in block.matrices
    )


def _is_odd(one: TensorChange | None) -> bool:
    return one is not None and one.is_finite and not (
        one.turn <= ODD_TURN and 1 / ODD_LENGTH < one.length < ODD_LENGTH
    )  # fmt: skip


def _is_comparable(block: Block, before: _Side, after: _Side) -> bool:
    if not block.readers or any(not side.is_matrix(one) for side in (before, after) for one in block.matrices):
        return False
    if not (before.is_vector(block.norm) and after.is_vector(block.norm)):
        return False
    width = before.shape(block.norm)
    is_read = all(before.shape(one)[1:] == width for one in block.readers)
    return is_read and all(before.shape(one) == after.shape(one) for one in (block.norm, *block.matrices))


def _named(order: NeuronOrder, pairs: Mapping[str, str]) -> NeuronOrder:
    return NeuronOrder(
        order.share,
        *({pairs[name]: one for name, one in by.items()} for by in (order.turns, order.together, order.alone)),
    )


class _Layer:
    """A part of a layer, in both folders.

    Attributes:
        shift: How far the norm's factors moved.
        order: The order of its neurons; None if it is the origin's, or nothing is known of it.
        is_search_fruitless: Another order was looked for and not found.
        factors: Smallest and largest factor by which the linear matrix was multiplied and the last one divided.
    """

    def __init__(
        self, block: Block, before: _Side, after: _Side, changed: Mapping[str, TensorChange], *, may_search: bool
    ) -> None:
        self._block, self._before, self._after, self._changed = block, before, after, changed
        self._old, self._new = (one.scale(block.norm, adds_one=block.adds_one) for one in (before, after))
        self._ratio = _ratio(self._old.factors, self._new.factors)
        self.shift = _shift(self._old.factors, self._new.factors, self._ratio)
        self._places: Order | None = None
        self._multiplied: FloatArray | None = None
        does_search = may_search and block.is_forward and bool(block.last) and self._is_out_of_order()
        self.order = self._find_order() if does_search else None
        self.is_search_fruitless = does_search and self.order is None
        self.factors = self._find_factors() if block.linear and block.last else None

    def norm(self, pairs: Mapping[str, str]) -> NormShift:
        """Describe the norm and those that read it."""
        readers = {pairs[one]: self._reader(one) for one in self._block.readers}
        return NormShift(self.shift, float(self._ratio.min()), float(self._ratio.max()), readers)

    def undone(self) -> dict[str, TensorChange]:
        """Return what is left of changes but for order and factors."""
        block, names = self._block, list[str]()
        if self._places is not None:
            names = list(block.matrices)
        elif self._multiplied is not None:
            names = [block.linear, block.last]
        return {one: self._left(one) for one in names if one in self._changed}

    def _reader(self, name: str) -> Reader:
        ids = _sample(self._before.shape(name)[0])
        old, new = self._before.rows(name, self._old_ids(ids)), self._after.rows(name, ids)
        new = new / self._row_factors(name)[ids, None]
        own = np.maximum(np.square(old, dtype=np.float64).sum(axis=0), SMALLEST)
        held = np.clip((old * new).sum(axis=0) / own, 1 / LARGEST, LARGEST)
        wanted = -np.log(self._ratio)
        weights = own * np.square(self._old.factors)
        scale = float(weights @ np.square(wanted)) or 1.0
        share = float(weights @ (np.log(held) * wanted)) / scale
        noise = np.square(new - held * old).sum(axis=0) / own / max(1, len(ids) - 1) / np.square(held)
        error = math.sqrt(float(np.square(weights * wanted) @ noise)) / scale
        kept = _relative(old * self._old.factors, new * self._old.factors)
        return Reader(share, error, kept, self._left(name))

    def _left(self, name: str) -> TensorChange:
        """Compare what both compute, of a sample of rows."""
        ids = _sample(self._before.shape(name)[0])
        if name == self._block.last:
            old, new = self._before.rows(name, ids), self._after.rows(name, ids)
            old = old if self._places is None else old[:, self._places]
            new = new * self._columns()
        else:
            old = self._before.computed(name, self._old_ids(ids), self._old)
            new = self._after.computed(name, ids, self._new) / self._row_factors(name)[ids, None]
        return _change(self._changed.get(name), old, new)

    def _old_ids(self, ids: Order) -> Order:
        return ids if self._places is None else self._places[ids]

    def _row_factors(self, name: str) -> FloatArray:
        if self._multiplied is not None and name == self._block.linear:
            return self._multiplied
        return np.ones(self._before.shape(name)[0], dtype=np.float32)

    def _columns(self) -> FloatArray:
        """Return what each column of the last matrix must have been divided by."""
        width = self._before.shape(self._block.last)[1]
        factors, size = self._multiplied, self._block.head_size
        if factors is None:
            return np.ones(width, dtype=np.float32)
        if len(factors) == width:
            return factors
        shared = factors.reshape(-1, size)  # by key head, each of which several query heads read
        columns: FloatArray = shared.repeat(width // len(factors), axis=0).ravel()
        return columns

    def _is_out_of_order(self) -> bool:
        found = [self._changed[one] for one in self._block.matrices if one in self._changed]
        return any(one.turn > OUT_OF_ORDER or one.strange_share > OUT_OF_ORDER for one in found)

    def _find_order(self) -> NeuronOrder | None:
        block, count = self._block, self._before.shape(self._block.last)[1]
        if count < MIN_NEURONS or any(self._before.shape(one)[0] != count for one in block.readers):
            return None
        sketches = {one: (self._sketch(one, self._before), self._sketch(one, self._after)) for one in block.matrices}
        turns = {one: self._turn(one, np.arange(count)) for one in block.matrices}
        whole = match(*(np.hstack([unit(one[at]) for one in sketches.values()]) for at in (0, 1)))
        together = {one: self._turn(one, whole) for one in block.matrices}
        if all(together[one] <= FITS * turns[one] or together[one] <= ODD_TURN for one in block.matrices):
            if _moved(whole) < LEAST_MOVED:
                return None
            self._places = whole
            return NeuronOrder(_moved(whole), turns, together)
        own = {one: match(*sketches[one]) for one in block.matrices if turns[one] > OUT_OF_ORDER}
        alone = {one: self._turn(one, order) for one, order in own.items()}
        fitting = [one for one in alone if alone[one] <= FITS * turns[one]]
        return NeuronOrder(_moved(own[fitting[0]]), turns, together, alone) if fitting else None

    def _sketch(self, name: str, side: _Side) -> FloatArray:
        """Project each neuron, `(neurons, WIDTH)`: rows onto random directions, of columns some that stand for all."""
        if name == self._block.last:
            return side.rows(name, _sample(side.shape(name)[0])).T
        scale = self._old if side is self._before else self._new
        onto = projection(len(scale.factors) + 1)
        return np.vstack([side.computed(name, ids, scale) @ onto for ids in _chunks(side.shape(name)[0])])

    def _turn(self, name: str, places: Order) -> float:
        ids = _sample(self._before.shape(name)[0])
        if name == self._block.last:
            return mean_turn(self._before.rows(name, ids)[:, places].T, self._after.rows(name, ids).T)
        old = self._before.computed(name, places[ids], self._old)
        return mean_turn(old, self._after.computed(name, ids, self._new))

    def _find_factors(self) -> tuple[float, float] | None:
        """Take the factors of the linear matrix's rows, if the last one's columns were divided by them."""
        block = self._block
        if block.linear not in self._changed or block.last not in self._changed or not self._is_joined():
            return None
        before = self._left(block.last)
        if not (_is_odd(before) or _is_odd(self._left(block.linear))):
            return None
        self._multiplied = np.concatenate(
            [self._factors_of(ids) for ids in _chunks(self._before.shape(block.linear)[0])]
        )
        if self._left(block.last).relative > FITS * before.relative:
            self._multiplied = None
            return None
        return float(self._multiplied.min()), float(self._multiplied.max())

    def _is_joined(self) -> bool:
        rows, columns = self._before.shape(self._block.linear)[0], self._before.shape(self._block.last)[1]
        size = self._block.head_size
        return rows == columns or bool(size and rows % size == 0 and columns % rows == 0)

    def _factors_of(self, ids: Order) -> FloatArray:
        old = self._before.computed(self._block.linear, self._old_ids(ids), self._old)
        new = self._after.computed(self._block.linear, ids, self._new)
        squares = np.square(old).sum(axis=1)
        found = (old * new).sum(axis=1) / np.maximum(squares, SMALLEST)
        factors: FloatArray = np.where(np.abs(found) > 1 / LARGEST**2, found, 1.0).astype(np.float32)
        return factors


def _ratio(old: FloatArray, new: FloatArray) -> FloatArray:
    """Return what each channel's factor was multiplied by, signs left out."""
    large = np.maximum(np.abs(new), SMALLEST) / np.maximum(np.abs(old), SMALLEST)
    ratio: FloatArray = np.clip(large, 1 / LARGEST, LARGEST)
    return ratio


def _shift(old: FloatArray, new: FloatArray, ratio: FloatArray) -> float:
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
        relative=_relative(old, new),
        turn=max(0.0, turn),
        length=length,
        strange_share=strange_share(old, new),
        is_reset=False,
    )


def _relative(old: FloatArray, new: FloatArray) -> float:
    length = float(np.linalg.norm(old))
    return float(np.linalg.norm(new - old)) / length if length else 1.0


def _moved(order: Order) -> float:
    return float(np.mean(order != np.arange(len(order))))


def _finite(values: FloatArray) -> FloatArray:
    """Keep squares and their sums in the range of float32."""
    finite: FloatArray = np.clip(np.nan_to_num(values, posinf=0.0, neginf=0.0), -MOST, MOST)
    return finite


def _sample(count: int) -> Order:
    return np.arange(0, count, max(1, -(-count // SAMPLE)), dtype=np.intp)


def _chunks(count: int) -> Iterable[Order]:
    return np.split(np.arange(count, dtype=np.intp), range(CHUNK_ROWS, count, CHUNK_ROWS))
