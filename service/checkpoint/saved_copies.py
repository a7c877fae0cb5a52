"""Compares the modules that an adapter saved whole with the base's own: is it the same module, tuned.

Reads the first rows of every matrix. Does not judge.
"""

from collections.abc import Mapping

import numpy as np

from service.checkpoint.rearrangement import rearrangement
from service.checkpoint.weights import FloatArray, WeightFiles
from service.domain.facts import Rearrangement

STRETCH_VALUES = 262_144
"""Values of a matrix that are compared: two matrices that have nothing in common differ in every stretch."""
VOCABULARY = ("embed_tokens.weight", "lm_head.weight")
MIN_VALUES = 1024
"""Smaller matrices may be unlike by chance."""
MOST_SHIFT = 4
"""Rows by which a vocabulary may have slipped, which other checks say."""


def saved_likeness(weights: WeightFiles, keys: Mapping[str, str], base: WeightFiles) -> dict[str, float]:
    """Return how alike saved matrices and the base's of the same names and shapes are.

    Args:
        weights: The adapter's tensors.
        keys: Names of its full tensors as the base has them, by their names in the file.
        base: The base's tensors.

    Returns:
        The median cosine of rows, by the matrix's name in the base.
    """
    found: dict[str, float] = {}
    for key, name in keys.items():
        old, new = base.tensors.get(name), weights.tensors[key]
        if old is None or old.shape != new.shape or len(old.shape) < 2 or base.num_values(name) < MIN_VALUES:
            continue
        if weights.is_float(key) and base.is_float(name):
            most = MOST_SHIFT if name.endswith(VOCABULARY) else 0
            found[name] = _likeness(_rows(weights, key), _rows(base, name), most)
    return found


def saved_rearranged(weights: WeightFiles, keys: Mapping[str, str], base: WeightFiles) -> dict[str, Rearrangement]:
    """Find saved tensors that hold the base's values in another order or with other signs; arguments as above."""
    pairs = {name: key for key, name in keys.items() if name in base.tensors}
    found = {name: rearrangement(base, name, weights, key) for name, key in pairs.items()}
    return {name: one for name, one in found.items() if one is not None}


def _rows(weights: WeightFiles, name: str) -> FloatArray:
    """Read the first rows as a matrix, `(rows, all other dimensions)`."""
    count = weights.tensors[name].shape[0]
    width = weights.num_values(name) // count
    rows = min(count, max(1, STRETCH_VALUES // width))
    flat: FloatArray = np.concatenate(list(weights.float_pieces(name, 0, rows * width)))
    return flat.reshape(rows, width)


def _likeness(new: FloatArray, old: FloatArray, most: int) -> float:
    """Return the median cosine of rows, shifted by up to `most` as they fit best; rows of zeros and of NaN have 0."""
    new, old = _unit(new), _unit(old)
    shifts = range(-most, most + 1)
    return max(float(np.median(np.einsum("ij,ij->i", np.roll(new, shift, axis=0), old))) for shift in shifts)


def _unit(rows: FloatArray) -> FloatArray:
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
        unit: FloatArray = np.nan_to_num(rows / lengths, nan=0.0, posinf=0.0, neginf=0.0)
    return unit
