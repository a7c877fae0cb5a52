"""Finds factors by which the rows of one matrix of a part were multiplied and the columns of the next one divided.

Takes the order of neurons as given.
"""

import numpy as np

from service.checkpoint.layer_parts import LARGEST, SMALLEST, Part, Taken, chunks, left
from service.checkpoint.neurons import Order
from service.checkpoint.weights import FloatArray
from service.domain.facts import TensorChange

ODD_TURN, ODD_LENGTH = 0.1, 1.25
"""Beyond these, a matrix may have been multiplied or put in order."""
FITS = 0.5
"""Factors must leave less than this share of the difference."""


def is_odd(one: TensorChange | None) -> bool:
    """Say whether a matrix changed by more than training changes it."""
    return one is not None and one.is_finite and not (
        one.turn <= ODD_TURN and 1 / ODD_LENGTH < one.length < ODD_LENGTH
    )  # fmt: skip


def find_factors(part: Part, places: Order | None) -> FloatArray | None:
    """Take the factors of the linear matrix's rows, `(rows,)`; None unless the last one's columns were divided by them.

    Args:
        part: Of a layer.
        places: Where each neuron stood in the origin; None: where it stands.
    """
    block, ordered = part.block, Taken(places)
    if not (block.linear in part.changed and block.last in part.changed and _is_joined(part)):
        return None
    before = left(part, block.last, ordered)
    if not (is_odd(before) or is_odd(left(part, block.linear, ordered))):
        return None
    factors = np.concatenate([_factors_of(part, ordered, ids) for ids in chunks(part.before.shape(block.linear)[0])])
    after = left(part, block.last, Taken(places, factors))
    return factors if after.relative <= FITS * before.relative else None


def _is_joined(part: Part) -> bool:
    rows, columns = part.before.shape(part.block.linear)[0], part.before.shape(part.block.last)[1]
    size = part.block.head_size
    return rows == columns or bool(size and rows % size == 0 and columns % rows == 0)


def _factors_of(part: Part, ordered: Taken, ids: Order) -> FloatArray:
    old = part.before.computed(part.block.linear, ordered.old_ids(ids), part.shift.old)
    new = part.after.computed(part.block.linear, ids, part.shift.new)
    squares = np.square(old).sum(axis=1)
    found = (old * new).sum(axis=1) / np.maximum(squares, SMALLEST)
    factors: FloatArray = np.where(np.abs(found) > 1 / LARGEST**2, found, 1.0).astype(np.float32)
    return factors
