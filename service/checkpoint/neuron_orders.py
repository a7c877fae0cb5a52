"""Finds the order in which the neurons of a feed-forward layer stand, where it is not the origin's.

Does not judge an order that only some of its matrices have.
"""

from dataclasses import dataclass

import numpy as np

from service.checkpoint.layer_parts import Part, chunks, sample
from service.checkpoint.neurons import MIN_NEURONS, Order, match, mean_turn, projection, unit
from service.checkpoint.weights import FloatArray
from service.domain.facts import NeuronOrder

IN_ORDER = 0.1
"""Turn up to which a matrix is in order."""
OUT_OF_ORDER = 0.3
"""Turn of a matrix, or share of its rows, below which most neurons stand where they stood."""
LEAST_MOVED = 0.01
"""Of the neurons; a few that resemble one another may be taken for each other."""
FITS = 0.5
"""An order must leave less than this share of the difference."""


@dataclass(frozen=True, slots=True)
class Found:
    """An order of neurons.

    Attributes:
        order: How far it fits, by the origin's names.
        places: Where each neuron stood in the origin; None if no one order fits all matrices.
    """

    order: NeuronOrder
    places: Order | None = None


def is_out_of_order(part: Part) -> bool:
    """Say whether neurons may stand elsewhere, so that it is worth looking for their order."""
    if not (part.block.is_forward and part.block.last):
        return False
    found = [part.changed[one] for one in part.block.matrices if one in part.changed]
    return any(one.turn > OUT_OF_ORDER or one.strange_share > OUT_OF_ORDER for one in found)


def find_order(part: Part) -> Found | None:
    """Look for one order that fits all matrices, else for one of some; None if there is neither."""
    block, count = part.block, part.before.shape(part.block.last)[1]
    if count < MIN_NEURONS or any(part.before.shape(one)[0] != count for one in block.readers):
        return None
    sketches = {one: _sketches(part, one) for one in block.matrices}
    turns = {one: _turn(part, one, np.arange(count)) for one in block.matrices}
    whole = match(*(np.hstack([unit(one[at]) for one in sketches.values()]) for at in (0, 1)))
    together = {one: _turn(part, one, whole) for one in block.matrices}
    if all(together[one] <= FITS * turns[one] or together[one] <= IN_ORDER for one in block.matrices):
        return Found(NeuronOrder(_moved(whole), turns, together), whole) if _moved(whole) >= LEAST_MOVED else None
    own = {one: match(*sketches[one]) for one in block.matrices if turns[one] > OUT_OF_ORDER}
    alone = {one: _turn(part, one, order) for one, order in own.items()}
    fitting = [one for one in alone if alone[one] <= FITS * turns[one]]
    return Found(NeuronOrder(_moved(own[fitting[0]]), turns, together, alone)) if fitting else None


def _sketches(part: Part, name: str) -> tuple[FloatArray, FloatArray]:
    """Project each neuron, `(neurons, WIDTH)`: rows onto random directions, of columns some that stand for all."""
    if name == part.block.last:
        ids = sample(part.before.shape(name)[0])
        return part.before.rows(name, ids).T, part.after.rows(name, ids).T
    onto = projection(len(part.shift.ratio) + 1)
    both = ((part.before, part.shift.old), (part.after, part.shift.new))
    parts = [
        np.vstack([side.computed(name, ids, scale) @ onto for ids in chunks(side.shape(name)[0])])
        for side, scale in both
    ]
    return parts[0], parts[1]


def _turn(part: Part, name: str, places: Order) -> float:
    ids = sample(part.before.shape(name)[0])
    if name == part.block.last:
        return mean_turn(part.before.rows(name, ids)[:, places].T, part.after.rows(name, ids).T)
    old = part.before.computed(name, places[ids], part.shift.old)
    return mean_turn(old, part.after.computed(name, ids, part.shift.new))


def _moved(order: Order) -> float:
    return float(np.mean(order != np.arange(len(order))))
