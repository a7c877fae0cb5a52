"""Finds the base's weight that each module of an adapter lies around, whatever the base's file calls it.

Compares names and shapes, no values.
"""

from collections.abc import Mapping

from service.checkpoint.pairing import Shape, pair_names
from service.checkpoint.weights import WeightFiles
from service.domain.factors import pair_of


def base_names(parts: Mapping[str, Mapping[str, str]], weights: WeightFiles, base: WeightFiles) -> dict[str, str]:
    """Return the base's name of the weight of each module that has two factors: its own, or behind another prefix.

    Args:
        parts: Keys by module and name of the part.
        weights: The adapter's tensors.
        base: The base's tensors.
    """
    wanted: dict[str, Shape] = {}
    for module, keys in parts.items():
        if (pair := pair_of(keys)) and (shape := _shape_of(pair, weights)):
            wanted[f"{module}.weight"] = shape
    stored = {name: one.shape for name, one in base.tensors.items()}
    return {name.removesuffix(".weight"): new for name, new in pair_names(wanted, stored).items()}


def _shape_of(pair: tuple[str, str], weights: WeightFiles) -> Shape | None:
    """Return the shape of what two factors add, of `(rank, in, ...)` and `(out, rank, ...)`; None if they are none."""
    first, second = (weights.tensors[one].shape for one in pair)
    return (second[0], *first[1:]) if len(first) > 1 and len(second) > 1 else None
