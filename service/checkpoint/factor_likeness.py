"""Compares what LoRA factors add with what the base's own weights already hold of it.

Reads the first rows of some modules. Does not judge.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from service.checkpoint.base_names import base_names
from service.checkpoint.weights import FloatArray, WeightFiles
from service.domain.factors import MAGNITUDES, by_module, pair_of, told_scale
from service.domain.facts import FactorLikeness

MAX_MODULES = 16
MAX_VALUES = 2_097_152
"""Of a module's weight."""
SAME_LENGTH = 2e-3
"""Rows of a weight that DoRA was merged into have the lengths that its magnitudes say, but for rounding."""


def factor_likeness(
    weights: WeightFiles, names: Mapping[str, str], base: WeightFiles, config: Mapping[str, Any]
) -> dict[str, FactorLikeness]:
    """Return how much of what factors add the base's weights already hold.

    Args:
        weights: The adapter's tensors.
        names: Short name of each by its key.
        base: The base's tensors.
        config: `adapter_config.json`, for the scale.

    Returns:
        Facts by module, of at most `MAX_MODULES`, spread over all.
    """
    parts = by_module(names)
    fit = _linear(parts, weights, base)
    found = {}
    for module in spread(list(fit)):
        mine, rows = parts[module], first_rows(base, fit[module])
        first, second = (weights.values(one) for one in pair_of(mine) or ())
        scale = told_scale(config, module, len(first))
        magnitudes = mine.get(MAGNITUDES)
        if magnitudes and not (weights.is_float(magnitudes) and _has_lengths(rows, weights.values(magnitudes))):
            continue  # DoRA undoes whatever of the weight the factors hold
        likeness = _likeness(first, second[: len(rows)], rows, scale) if scale else None
        if likeness is not None:
            found[module] = likeness
    return found


def _linear(parts: Mapping[str, Mapping[str, str]], weights: WeightFiles, base: WeightFiles) -> dict[str, str]:
    """Return the base's weight of every module that is linear and has two factors that fit it."""
    names = base_names(parts, weights, base)
    return {module: name for module, name in names.items() if _is_linear(pair_of(parts[module]), weights, base, name)}


def _is_linear(pair: tuple[str, str] | None, weights: WeightFiles, base: WeightFiles, name: str) -> bool:
    if pair is None or not (base.is_matrix(name) and all(weights.is_matrix(one) for one in pair)):
        return False
    (rank, width), (height, other) = (weights.tensors[one].shape for one in pair)
    return rank == other and base.tensors[name].shape == (height, width)


def spread(modules: Sequence[str]) -> list[str]:
    """Choose at most `MAX_MODULES` of all."""
    places = {int(place) for place in np.linspace(0, len(modules) - 1, MAX_MODULES)} if modules else set()
    return [modules[place] for place in sorted(places)]


def first_rows(base: WeightFiles, name: str) -> FloatArray:
    """Read the first rows of a weight, at most `MAX_VALUES` values unless one row has more."""
    height, width = base.tensors[name].shape
    rows = min(height, max(1, MAX_VALUES // width))
    flat: FloatArray = np.concatenate(list(base.float_pieces(name, 0, rows * width)))
    return flat.reshape(rows, width)


def _has_lengths(rows: FloatArray, lengths: FloatArray) -> bool:
    lengths = lengths.reshape(-1)
    if len(lengths) < len(rows):
        return False
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        ratios = np.sqrt(np.einsum("ij,ij->i", rows, rows)) / lengths[: len(rows)]
    return bool(np.median(np.abs(ratios - 1)) < SAME_LENGTH)


def _likeness(first: FloatArray, second: FloatArray, weight: FloatArray, scale: float) -> FactorLikeness | None:
    """Compare factors `(rank, in)` and `(rows, rank)`, times a scale, with the first rows of a weight.

    The product is never formed: both are seen in the bases of the spaces that the factors span, `(rank, rank)` or less,
    in float64, as squares of large values leave float32.
    """
    if not all(np.isfinite(one).all() for one in (first, second, weight)):
        return None
    left, outer = np.linalg.qr(second)
    right, inner = np.linalg.qr(first.T)
    wide = weight.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        product = outer.astype(np.float64) @ inner.T.astype(np.float64) * scale
        there = left.T.astype(np.float64) @ wide @ right
        length, other = float(np.linalg.norm(product)), float(np.linalg.norm(there))
    if not min(length, other) or not math.isfinite(length) or not math.isfinite(other):
        return None
    share = float(np.sum(product / length * there)) / length
    rest = float(np.linalg.norm(there - share * product)) / math.sqrt(max(there.size - 1, 1))
    chance = max(rest, float(np.linalg.norm(wide)) / math.sqrt(weight.size))
    return FactorLikeness(rank=min(there.shape), cosine=share / other * length, share=share, noise=chance / length)
