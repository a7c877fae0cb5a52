"""Finds out whether a tensor holds another one's values in another order, or with other signs.

A matrix whose parts resemble one another looks tuned when its parts have changed places: each of the kernel's colours
is much like the others, each position's row much like the next one's. Knows no limit of what is allowed to differ.
"""

import re
from itertools import permutations

import numpy as np

from service.checkpoint.weights import FloatArray, WeightFiles
from service.domain.facts import Rearrangement

POSITIONS = re.compile(r"(position_embedding|pos_embed)[^.]*(\.weight)?$")
NUM_COLOURS = 3
MAX_VALUES = 8_000_000
MIN_ROWS, MAX_SAMPLE, MIN_SIGNS = 16, 256, 16
FITS = 0.5
"""Another order must leave less than this share of the difference: tuning leaves the old order the best one."""
MOVED = 0.5
"""Share of rows that must have gone elsewhere."""
SIGN_TURN, SAME_SIZE = 0.5, 0.95
"""Turn of a vector that no training makes, and cosine of the absolute values that shows what did."""
LEAST_TURN = 1e-4
"""Rounding to 16 bits turns a tensor by less."""


def rearrangement(before: WeightFiles, old: str, after: WeightFiles, new: str) -> Rearrangement | None:
    """Compare two tensors of one shape; None if the new one is the old one in its own order.

    Args:
        before: Where the old one is.
        old: Its name there.
        after: Where the new one is.
        new: Its name there.
    """
    shape = before.tensors[old].shape
    if shape != after.tensors[new].shape or not shape or before.num_values(old) > MAX_VALUES:
        return None
    if not (before.is_float(old) and after.is_float(new)):
        return None
    if len(shape) == 1:
        return _signs(_flat(before, old), _flat(after, new)) if shape[0] >= MIN_SIGNS else None
    if len(shape) >= 4 and shape[1] == NUM_COLOURS:
        return _colours(_flat(before, old).reshape(shape), _flat(after, new).reshape(shape))
    if len(shape) == 2 and shape[0] >= MIN_ROWS and POSITIONS.search(old):
        return _rows(_flat(before, old).reshape(shape), _flat(after, new).reshape(shape))
    return None


def _flat(weights: WeightFiles, name: str) -> FloatArray:
    flat: FloatArray = np.nan_to_num(np.concatenate(list(weights.float_pieces(name))), posinf=0.0, neginf=0.0)
    return flat


def _signs(old: FloatArray, new: FloatArray) -> Rearrangement | None:
    turn, left = _turn(old, new), _turn(np.abs(old), np.abs(new))
    if turn < SIGN_TURN or left > 1 - SAME_SIZE:
        return None
    share = float(np.mean(np.signbit(old) != np.signbit(new)))
    return Rearrangement("signs", turn, left, share, f"{share:.0%} of its values have the opposite sign")


def _colours(old: FloatArray, new: FloatArray) -> Rearrangement | None:
    turns = {order: _turn(old[:, order].ravel(), new.ravel()) for order in permutations(range(NUM_COLOURS))}
    own, best = turns[tuple(range(NUM_COLOURS))], min(turns, key=lambda one: turns[one])
    if own < LEAST_TURN or turns[best] > FITS * own:
        return None
    return Rearrangement("colours", own, turns[best], 1.0, f"its colours are in the order {list(best)}")


def _rows(old: FloatArray, new: FloatArray) -> Rearrangement | None:
    """Look for the old row that each new one is most like; what all rows share tells them not apart."""
    sample = np.arange(0, len(old), max(1, len(old) // MAX_SAMPLE))
    likeness = _unit(new[sample] - new.mean(axis=0)) @ _unit(old - old.mean(axis=0)).T
    best = likeness.argmax(axis=1)
    own = 1 - likeness[np.arange(len(sample)), sample]
    left = 1 - likeness[np.arange(len(sample)), best]
    is_moved = (best != sample) & (own > LEAST_TURN) & (left < FITS * own)
    share = float(is_moved.mean())
    if share < MOVED:
        return None
    steps, counts = np.unique((best - sample)[is_moved] % len(old), return_counts=True)
    step, most = int(steps[counts.argmax()]), float(counts.max() / is_moved.sum())
    how = f"by {step - len(old) if step > len(old) // 2 else step}" if most > MOVED else "to other places"
    return Rearrangement(
        "positions", float(own.mean()), float(left.mean()), share, f"{share:.0%} of its rows moved {how}"
    )


def _turn(old: FloatArray, new: FloatArray) -> float:
    lengths = float(np.linalg.norm(old)) * float(np.linalg.norm(new))
    return 1.0 - float(old @ new) / lengths if lengths else 1.0


def _unit(rows: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: FloatArray = rows / np.maximum(lengths, 1e-12)
    return unit
