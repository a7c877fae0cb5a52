"""Finds changes that several tensors of a layer share, so that the layer computes what it computed.

A scale may move from a norm into all matrices that read it, a factor from the rows of one matrix into the columns of
the next, and neurons may stand in another order. These are looked for in three steps, each of which takes what the one
before found: the norm's shift, the order, the factors. Reads samples, and only of layers of which a norm or a matrix
changed by more than training changes it. Does not know what may have changed.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.checkpoint.blocks import Block, blocks
from service.checkpoint.given_back import find_factors, is_odd
from service.checkpoint.layer_parts import LARGEST, SMALLEST, Part, Side, Taken, left, read_part, relative, sample
from service.checkpoint.neuron_orders import find_order, is_out_of_order
from service.checkpoint.weights import FloatArray, WeightFiles
from service.domain.facts import NeuronOrder, NormShift, Reader, SameFunction, TensorChange

LEAST_SHIFT = 0.1
"""Root mean square of the logarithm of factors: training moves norms by a few per cent."""
LEAST_RELATIVE = 0.02
"""Relative change of a norm's weight, below which its factors are not looked at."""
MOST_FRUITLESS = 4
"""Layers in which no order is found, before no further ones are searched: the folder has another origin."""


@dataclass(frozen=True, slots=True)
class _Layer:
    """What was found in a part of a layer.

    Attributes:
        part: In both folders.
        order: Of its neurons; None if it is the origin's, or nothing is known of it.
        taken: What its tensors took from one another.
    """

    part: Part
    order: NeuronOrder | None
    taken: Taken


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
    before, after = Side(origin, {one: one for one in pairs}), Side(tuned, pairs)
    suspicious = [one for one in blocks(pairs, config) if _is_suspicious(one, changed)]
    parts = (read_part(one, before, after, changed) for one in suspicious if _is_comparable(one, before, after))
    layers = list(_layers(parts))
    return SameFunction(
        norms={pairs[one.part.block.norm]: _norm(one, pairs) for one in layers if _is_shifted(one.part)},
        neurons=tuple(_named(one.order, pairs) for one in layers if one.order),
        undone={pairs[name]: left(one.part, name, one.taken) for one in layers for name in _undone(one)},
        factors={
            (pairs[one.part.block.linear], pairs[one.part.block.last]): (float(found.min()), float(found.max()))
            for one in layers
            if (found := one.taken.factors) is not None
        },
    )


def _layers(parts: Iterator[Part]) -> Iterator[_Layer]:
    """Look for orders and factors, until too many layers have none of the orders that they seem to have."""
    fruitless = 0
    for part in parts:
        does_search = fruitless < MOST_FRUITLESS and is_out_of_order(part)
        found = find_order(part) if does_search else None
        fruitless += does_search and found is None
        places = found.places if found else None
        factors = find_factors(part, places) if part.block.linear and part.block.last else None
        yield _Layer(part, found.order if found else None, Taken(places, factors))


def _is_suspicious(block: Block, changed: Mapping[str, TensorChange]) -> bool:
    norm = changed.get(block.norm)
    return (norm is not None and norm.is_finite and norm.relative > LEAST_RELATIVE) or any(
        is_odd(changed.get(one)) for one in block.matrices
    )


def _is_comparable(block: Block, before: Side, after: Side) -> bool:
    if not block.readers or any(not side.is_matrix(one) for side in (before, after) for one in block.matrices):
        return False
    if not (before.is_vector(block.norm) and after.is_vector(block.norm)):
        return False
    width = before.shape(block.norm)
    is_read = all(before.shape(one)[1:] == width for one in block.readers)
    return is_read and all(before.shape(one) == after.shape(one) for one in (block.norm, *block.matrices))


def _is_shifted(part: Part) -> bool:
    norm = part.changed.get(part.block.norm)
    return part.shift.strength > LEAST_SHIFT or (norm is not None and norm.is_reset)


def _named(order: NeuronOrder, pairs: Mapping[str, str]) -> NeuronOrder:
    return NeuronOrder(
        order.share,
        *({pairs[name]: one for name, one in by.items()} for by in (order.turns, order.together, order.alone)),
    )


def _undone(layer: _Layer) -> list[str]:
    """Name the matrices of whose change an order or factors are a part."""
    block, names = layer.part.block, list[str]()
    if layer.taken.places is not None:
        names = list(block.matrices)
    elif layer.taken.factors is not None:
        names = [block.linear, block.last]
    return [one for one in names if one in layer.part.changed]


def _norm(layer: _Layer, pairs: Mapping[str, str]) -> NormShift:
    """Describe a norm and the matrices that read it."""
    shift = layer.part.shift
    readers = {pairs[one]: _reader(layer.part, one, layer.taken) for one in layer.part.block.readers}
    return NormShift(shift.strength, float(shift.ratio.min()), float(shift.ratio.max()), readers)


def _reader(part: Part, name: str, taken: Taken) -> Reader:
    ids = sample(part.before.shape(name)[0])
    old, new = part.before.rows(name, taken.old_ids(ids)), part.after.rows(name, ids)
    new = new / taken.of_rows(part, name)[ids, None]
    factors = part.shift.old.factors
    share, error = _held(old, new, factors, part.shift.ratio)
    return Reader(share, error, relative(old * factors, new * factors), left(part, name, taken))


def _held(old: FloatArray, new: FloatArray, factors: FloatArray, ratio: FloatArray) -> tuple[float, float]:
    """Return how much of the inverse of a norm's ratio the columns of rows hold, and the error of that.

    Args:
        old: Rows of the origin, `(rows, hidden)`.
        new: The same of the tuned folder.
        factors: By what the origin's norm multiplies, `(hidden,)`.
        ratio: What these were multiplied by, `(hidden,)`.
    """
    own = np.maximum(np.square(old, dtype=np.float64).sum(axis=0), SMALLEST)
    held = np.clip((old * new).sum(axis=0) / own, 1 / LARGEST, LARGEST)
    wanted = -np.log(ratio)
    weights = own * np.square(factors)
    scale = float(weights @ np.square(wanted)) or 1.0
    noise = np.square(new - held * old).sum(axis=0) / own / max(1, len(old) - 1) / np.square(held)
    error = math.sqrt(float(np.square(weights * wanted) @ noise)) / scale
    return float(weights @ (np.log(held) * wanted)) / scale, error
