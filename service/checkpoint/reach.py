"""Says how far LoRA factors move weights, and which saved tensors move none.

Never forms a product: lengths come from the factors' own products, `(rank, rank)`. Does not judge.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from service.checkpoint.base_names import base_names
from service.checkpoint.weights import FloatArray, WeightFiles
from service.domain.factors import LINEAR, MAGNITUDES, by_module, pair_of, told_scale

HEAD = "lm_head.weight"
STRETCH_VALUES = 65_536
"""Of a weight whose usual size is measured: all of it has the same."""


def update_shares(
    weights: WeightFiles, names: Mapping[str, str], config: Mapping[str, Any], base: WeightFiles
) -> dict[str, float]:
    """Return how far the factors move weights: the length of each module's update over that of its weight.

    Args:
        weights: The adapter's tensors.
        names: Short name of each by its key.
        config: `adapter_config.json`.
        base: The base's tensors.

    Returns:
        Nothing if there are no factors, or one of the modules is no plain pair on a weight of the base.
    """
    shares: dict[str, float] = {}
    modules = by_module(names)
    weighted = base_names(modules, weights, base)
    for module, parts in modules.items():
        if LINEAR[0] not in parts:
            continue
        factors, name = pair_of(parts), weighted.get(module)
        if factors is None or name is None or MAGNITUDES in parts:
            return {}
        if not base.is_float(name) or not all(weights.is_float(one) for one in factors):
            return {}
        share = _share(weights, factors, config, module, _usual(base, name))
        if share is None:
            return {}
        shares[module] = share
    return shares


def base_copies(
    weights: WeightFiles, names: Mapping[str, str], base: WeightFiles, tied: str | None = None
) -> tuple[str, ...]:
    """Name the tensors that are the base's of the same name, value by value, in whichever type.

    Args:
        weights: The adapter's tensors.
        names: Names of its full tensors as the base has them, by their names in the file.
        base: The base's tensors.
        tied: The base's tensor that is its output matrix too, if there is one.
    """
    pairs = {key: tied if tied and _is_head(name) and name not in base.tensors else name for key, name in names.items()}
    return tuple(
        sorted(names[key] for key, name in pairs.items() if name in base.tensors and _is_copy(weights, key, base, name))
    )


def _is_head(name: str) -> bool:
    return name == HEAD or name.endswith(f".{HEAD}")


def _is_copy(weights: WeightFiles, key: str, base: WeightFiles, name: str) -> bool:
    new, old = weights.tensors[key], base.tensors[name]
    if new.shape != old.shape or not (weights.is_float(key) and base.is_float(name)):
        return False
    if new.dtype == old.dtype:
        return weights.is_same(key, base, name)
    pieces = zip(weights.float_pieces(key), base.float_pieces(name), strict=True)
    return all(np.array_equal(one, other) for one, other in pieces)


def _share(
    weights: WeightFiles, factors: tuple[str, str], config: Mapping[str, Any], module: str, usual: float
) -> float | None:
    """Return the root mean square of an update over that of the weight; None if it cannot be told."""
    a, b = (weights.values(one) for one in factors)
    if not (a.size and b.size):
        return None
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    if b.shape[1] != len(a) or not usual or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return None
    if (scale := told_scale(config, module, len(a))) is None:
        return None
    a, b = a.astype(np.float64), b.astype(np.float64)
    square: float = float(np.sum((b.T @ b) * (a @ a.T)))
    share = float(abs(scale) * math.sqrt(max(square, 0.0) / (len(b) * a.shape[1])) / usual)
    return share if math.isfinite(share) else None


def _usual(base: WeightFiles, name: str) -> float:
    """Return the root mean square of a weight's first values; 0 if it has none, or they are not finite."""
    stop = min(STRETCH_VALUES, base.num_values(name))
    values: FloatArray = np.concatenate([np.zeros(0, np.float32), *base.float_pieces(name, 0, stop)])
    with np.errstate(invalid="ignore", over="ignore"):
        found = float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) if values.size else 0.0
    return found if np.isfinite(found) else 0.0
