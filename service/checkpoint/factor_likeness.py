"""Compares what LoRA factors add with what the base's own weights already hold of it.

Reads the first rows of some modules. Does not judge.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from service.checkpoint.deltas import scaling
from service.checkpoint.weights import FloatArray, WeightFiles
from service.domain.facts import FactorLikeness

FIRST, SECOND = ".lora_A.weight", ".lora_B.weight"
MAGNITUDES = (".lora_magnitude_vector", ".lora_magnitude_vector.weight")
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
    keys = {short: key for key, short in names.items()}
    modules = [short.removesuffix(FIRST) for short in keys if short.endswith(FIRST)]
    fit = [one for one in modules if _is_linear(one, keys, weights, base)]
    spread = {int(place) for place in np.linspace(0, len(fit) - 1, MAX_MODULES)} if fit else set()
    found = {}
    for module in (fit[place] for place in sorted(spread)):
        rows = _rows(base, f"{module}.weight")
        first, second = weights.values(keys[module + FIRST]), weights.values(keys[module + SECOND])
        scale = _scale(config, module, len(first))
        magnitudes = next((keys[module + one] for one in MAGNITUDES if module + one in keys), None)
        if magnitudes and not _has_lengths(rows, weights.values(magnitudes).reshape(-1)):
            continue  # DoRA undoes whatever of the weight the factors hold
        likeness = _likeness(first, second[: len(rows)] * np.float32(scale), rows) if scale else None
        if likeness is not None:
            found[module] = likeness
    return found


def _is_linear(module: str, keys: Mapping[str, str], weights: WeightFiles, base: WeightFiles) -> bool:
    """Say whether a module is linear, with two factors that fit the base's weight."""
    first, second, name = keys[module + FIRST], keys.get(module + SECOND), f"{module}.weight"
    if second is None or name not in base.tensors:
        return False
    if not (weights.is_matrix(first) and weights.is_matrix(second) and base.is_matrix(name)):
        return False
    (rank, width), (height, other) = weights.tensors[first].shape, weights.tensors[second].shape
    return rank == other and base.tensors[name].shape == (height, width)


def _scale(config: Mapping[str, Any], module: str, rank: int) -> float | None:
    try:
        return scaling(config, module, rank)
    except (ValueError, TypeError, OverflowError):  # other checks say what is wrong with the config
        return None


def _rows(base: WeightFiles, name: str) -> FloatArray:
    height, width = base.tensors[name].shape
    rows = min(height, max(1, MAX_VALUES // width))
    flat: FloatArray = np.concatenate(list(base.float_pieces(name, 0, rows * width)))
    return flat.reshape(rows, width)


def _has_lengths(rows: FloatArray, lengths: FloatArray) -> bool:
    if len(lengths) < len(rows):
        return False
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        ratios = np.sqrt(np.einsum("ij,ij->i", rows, rows)) / lengths[: len(rows)]
    return bool(np.median(np.abs(ratios - 1)) < SAME_LENGTH)


def _likeness(first: FloatArray, second: FloatArray, weight: FloatArray) -> FactorLikeness | None:
    """Compare factors `(rank, in)` and `(rows, rank)`, scaled, with the first rows of a weight.

    The product is never formed: both are seen in the bases of the spaces that the factors span, `(rank, rank)` or less.
    """
    if not all(np.isfinite(one).all() for one in (first, second, weight)):
        return None
    left, outer = np.linalg.qr(second)
    right, inner = np.linalg.qr(first.T)
    product, there = outer @ inner.T, left.T @ weight @ right
    length, other = float(np.linalg.norm(product)), float(np.linalg.norm(there))
    if not min(length, other) or not math.isfinite(length) or not math.isfinite(other):
        return None
    dot = float(np.sum(product * there))
    rest = float(np.linalg.norm(there - dot / length**2 * product)) / math.sqrt(max(there.size - 1, 1))
    chance = max(rest, float(np.linalg.norm(weight)) / math.sqrt(weight.size))
    return FactorLikeness(
        rank=min(there.shape), cosine=dot / (length * other), share=dot / length**2, noise=chance / length
    )
