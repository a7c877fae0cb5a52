"""Compares what LoRA factors multiply to with the base's own weights: were the factors cut out of the base.

Reads the first rows of a few modules. Does not judge.
"""

from collections.abc import Mapping

import numpy as np

from service.checkpoint.weights import FloatArray, WeightFiles

FIRST, SECOND = ".lora_A.weight", ".lora_B.weight"
MAGNITUDES = (".lora_magnitude_vector", ".lora_magnitude_vector.weight")
MAX_MODULES = 8
MAX_VALUES = 4_194_304
"""Of a module's weight."""
MIN_RANK = 4
"""Products of a smaller rank may be alike by chance."""


def factor_likeness(weights: WeightFiles, names: Mapping[str, str], base: WeightFiles) -> dict[str, float]:
    """Return how alike products of factors and the base's weights are, within what both factors span.

    Factors that PiSSA, OLoRA and their like cut out of the weight hold just what the weight has there, so that this is
    1 at any rank, and near 0 where the factors began at random and at zero.

    Args:
        weights: The adapter's tensors.
        names: Short name of each by its key.
        base: The base's tensors.

    Returns:
        The cosine by module, of at most `MAX_MODULES`, spread over all.
    """
    keys = {short: key for key, short in names.items()}
    modules = [short.removesuffix(FIRST) for short in keys if short.endswith(FIRST)]
    fit = [one for one in modules if _is_plain(one, keys, weights, base)]
    spread = {int(place) for place in np.linspace(0, len(fit) - 1, MAX_MODULES)} if fit else set()
    found = {}
    for module in (fit[place] for place in sorted(spread)):
        first, second = weights.values(keys[module + FIRST]), weights.values(keys[module + SECOND])
        likeness = _likeness(first, second, _rows(base, f"{module}.weight"))
        if likeness is not None:
            found[module] = likeness
    return found


def _is_plain(module: str, keys: Mapping[str, str], weights: WeightFiles, base: WeightFiles) -> bool:
    """Say whether a module is linear, with two factors that fit the base's weight and nothing else."""
    first, second, name = keys[module + FIRST], keys.get(module + SECOND), f"{module}.weight"
    if second is None or name not in base.tensors or any(module + one in keys for one in MAGNITUDES):
        return False
    if not (weights.is_matrix(first) and weights.is_matrix(second) and base.is_matrix(name)):
        return False
    (rank, width), (height, other) = weights.tensors[first].shape, weights.tensors[second].shape
    is_low = MIN_RANK <= rank <= min(height, width) // 2
    return is_low and rank == other and base.tensors[name].shape == (height, width)


def _rows(base: WeightFiles, name: str) -> FloatArray:
    height, width = base.tensors[name].shape
    rows = min(height, max(1, MAX_VALUES // width))
    flat: FloatArray = np.concatenate(list(base.float_pieces(name, 0, rows * width)))
    return flat.reshape(rows, width)


def _likeness(first: FloatArray, second: FloatArray, weight: FloatArray) -> float | None:
    """Return the cosine of factors `(rank, in)` and `(out, rank)` and of the first rows of a weight, if there is one.

    The product is never formed: both are seen in the bases of the spaces that the factors span, `(rank, rank)`.
    """
    second = second[: len(weight)]
    if len(second) < len(first) or not all(np.isfinite(one).all() for one in (first, second, weight)):
        return None
    left, outer = np.linalg.qr(second)
    right, inner = np.linalg.qr(first.T)
    product, there = outer @ inner.T, left.T @ weight @ right
    lengths = float(np.linalg.norm(product)), float(np.linalg.norm(there))
    if not min(lengths) or not np.isfinite(lengths).all():
        return None
    return float(np.sum(product * there)) / (lengths[0] * lengths[1])
