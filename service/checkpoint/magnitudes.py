"""Compares DoRA's magnitudes with what they begin as: the lengths of the rows of the base's weights.

Reads the first rows of some modules. Does not judge.
"""

from collections.abc import Mapping

import numpy as np

from service.checkpoint.base_names import base_names
from service.checkpoint.factor_likeness import first_rows, spread
from service.checkpoint.weights import FloatArray, WeightFiles
from service.domain.factors import MAGNITUDES, by_module
from service.domain.facts import MagnitudeFacts

MIN_ROWS = 16
LEAST_SPREAD = 0.05
"""Deviation of the logarithm of lengths: of rows that are more alike, training hides which was the longer one."""


def magnitude_facts(weights: WeightFiles, names: Mapping[str, str], base: WeightFiles) -> dict[str, MagnitudeFacts]:
    """Return how magnitudes compare with lengths, by module, of a few, spread over all.

    Args:
        weights: The adapter's tensors.
        names: Short name of each by its key.
        base: The base's tensors.
    """
    parts = by_module(names)
    weighted = base_names(parts, weights, base)
    keys = {module: parts[module][MAGNITUDES] for module in weighted if MAGNITUDES in parts[module]}
    fit = [module for module, key in keys.items() if _fits(weights, key, base, weighted[module])]
    found = {}
    for module in spread(fit):
        lengths = _lengths(base, weighted[module])
        one = _compared(weights.values(keys[module]).reshape(-1)[: len(lengths)], lengths)
        if one is not None:
            found[module] = one
    return found


def _fits(weights: WeightFiles, key: str, base: WeightFiles, name: str) -> bool:
    if not (base.is_matrix(name) and base.is_float(name) and weights.is_float(key)):
        return False
    return weights.num_values(key) == base.tensors[name].shape[0] >= MIN_ROWS


def _lengths(base: WeightFiles, name: str) -> FloatArray:
    rows = first_rows(base, name)
    squares = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    lengths: FloatArray = np.sqrt(squares).astype(np.float32)
    return lengths


def _compared(magnitudes: FloatArray, lengths: FloatArray) -> MagnitudeFacts | None:
    """Compare logarithms; None where a value is not above zero, or the values of one side are too much alike."""
    both = np.stack([magnitudes, lengths]).astype(np.float64)
    if not (np.isfinite(both).all() and (both > 0).all()):
        return None
    logarithms = np.log(both)
    deviations = logarithms.std(axis=1)
    if not deviations[0] or deviations[1] < LEAST_SPREAD:
        return None
    centred = logarithms - logarithms.mean(axis=1, keepdims=True)
    likeness = float((centred[0] * centred[1]).mean() / deviations.prod())
    return MagnitudeFacts(float(np.exp(np.median(np.abs(logarithms[0] - logarithms[1])))), likeness)
