"""Finds the neurons of a feed-forward layer that stand in another order, and rows that are no longer the same.

Compares short projections of them, so that matching each with each stays cheap. Knows no names.
"""

import math

import numpy as np
from numpy.typing import NDArray

from service.checkpoint.weights import FloatArray

Order = NDArray[np.intp]
WIDTH = 32
"""Numbers that stand for a neuron in one matrix; of 12,288 that have nothing in common none seems alike by 0.8 then."""
CHUNK = 1024
"""Neurons that are matched with all others at a time."""
MIN_NEURONS = 16
STRANGE = 0.9
"""Turn beyond which two rows have next to nothing in common."""


def projection(hidden: int) -> FloatArray:
    """Return `(hidden, WIDTH)` random directions, always the same ones."""
    return np.random.default_rng(0).standard_normal((hidden, WIDTH), dtype=np.float32)


def match(old: FloatArray, new: FloatArray) -> Order:
    """Return for each new neuron the old one that it is, each once.

    Args:
        old: `(neurons, any)`.
        new: Of the same shape.
    """
    before, after = unit(old), unit(new)
    best, score = np.empty(len(new), dtype=np.intp), np.empty(len(new), dtype=np.float32)
    for at in range(0, len(new), CHUNK):
        likeness = after[at : at + CHUNK] @ before.T
        best[at : at + CHUNK] = likeness.argmax(axis=1)
        score[at : at + CHUNK] = likeness.max(axis=1)
    order = np.full(len(new), -1, dtype=np.intp)
    by_score = np.argsort(-score, kind="stable")
    taken, first = np.unique(best[by_score], return_index=True)
    order[by_score[first]] = taken
    order[order < 0] = np.setdiff1d(np.arange(len(new)), taken)  # such as neurons of zeros, which are all alike
    return order


def mean_turn(old: FloatArray, new: FloatArray) -> float:
    """Return 1 minus the mean cosine of rows, weighed by the square of the old ones' length."""
    weights = np.square(old).sum(axis=1)
    total = float(weights.sum())
    return 1.0 - float(weights @ (unit(old) * unit(new)).sum(axis=1)) / total if total else 1.0


def strange_share(old: FloatArray, new: FloatArray) -> float:
    """Return the share of the old square length in rows that have next to nothing in common with the new ones."""
    before, after = old.astype(np.float64), new.astype(np.float64)
    squares = np.einsum("ij,ij->i", before, before)
    lengths = np.sqrt(squares * np.einsum("ij,ij->i", after, after))
    with np.errstate(invalid="ignore"):
        is_strange = np.einsum("ij,ij->i", before, after) < (1 - STRANGE) * lengths
    total = float(squares.sum())
    return float(squares[is_strange].sum()) / total if total and math.isfinite(total) else 0.0


def unit(rows: FloatArray) -> FloatArray:
    """Bring each row to length one, but for zeros."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: FloatArray = rows / np.maximum(lengths, 1e-20)
    return scaled
