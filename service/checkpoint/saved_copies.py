"""Compares the modules that an adapter saved whole with the base's own: is it the same module, tuned.

Reads a stretch of every matrix. Does not judge.
"""

from collections import defaultdict
from collections.abc import Mapping
from statistics import median

import numpy as np

from service.checkpoint.weights import WeightFiles

STRETCH_VALUES = 262_144
"""Values of a matrix that are compared: two matrices that have nothing in common differ in every stretch."""


def saved_likeness(weights: WeightFiles, keys: Mapping[str, str], base: WeightFiles) -> dict[str, float]:
    """Return the median cosine between the matrices of every saved module and the base's of the same names and shapes.

    Args:
        weights: The adapter's tensors.
        keys: Names of its full tensors as the base has them, by their names in the file.
        base: The base's tensors.
    """
    found: dict[str, list[float]] = defaultdict(list)
    for key, name in keys.items():
        old, new = base.tensors.get(name), weights.tensors[key]
        if old is None or old.shape != new.shape or len(old.shape) < 2:
            continue
        if weights.is_float(key) and base.is_float(name):
            found[_module(name)].append(_cosine(weights, key, base, name))
    return {module: median(values) for module, values in found.items()}


def _module(name: str) -> str:
    """Name what `modules_to_save` would: the vocabulary matrix, or the module at the root."""
    stem = name.removesuffix(".weight")
    return stem if stem.endswith(("embed_tokens", "lm_head")) else name.partition(".")[0]


def _cosine(weights: WeightFiles, key: str, base: WeightFiles, name: str) -> float:
    stop = min(weights.num_values(key), STRETCH_VALUES)
    new, old = (
        np.concatenate(list(files.float_pieces(one, 0, stop))).astype(np.float64)
        for files, one in ((weights, key), (base, name))
    )
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        length = float(np.sqrt((old @ old) * (new @ new)))
        cosine = float(old @ new) / length if length else 0.0
    return cosine if np.isfinite(cosine) else 0.0
