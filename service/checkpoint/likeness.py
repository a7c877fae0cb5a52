"""Compares an adapter's tensors with one another.

Does not know which resemblance is a fault.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping

from service.checkpoint.weights import WeightFiles
from service.domain.factors import LINEAR, by_module, pair_of, part_of

LAYER = re.compile(r"\.\d+\.")


def repeated_tensors(weights: WeightFiles, names: Mapping[str, str]) -> dict[str, str]:
    """Find LoRA factors that are those of an earlier layer.

    Args:
        weights: The adapter's tensors.
        names: Short name of each by its key.
    """
    kinds: dict[tuple[str, tuple[int, ...], str], list[str]] = defaultdict(list)
    for key, tensor in weights.tensors.items():
        part = part_of(names[key])
        if part and part.kind in LINEAR and weights.is_float(key) and 0 not in tensor.shape:
            kinds[LAYER.sub(".*.", key), tensor.shape, tensor.dtype].append(key)
    found: dict[str, str] = {}
    for keys in kinds.values():
        first: dict[str, str] = {}
        for key in sorted(keys, key=numbers_in) if len(keys) > 1 else ():
            original = first.setdefault(weights.digest(key), key)
            if original != key:
                found[names[key]] = names[original]
    return found


def repeated_modules(weights: WeightFiles, names: Mapping[str, str]) -> dict[str, str]:
    """Find modules both of whose LoRA factors are those of one module before them, with that one's name.

    Args:
        weights: The adapter's tensors.
        names: Short name of each by its key.
    """
    full = {key: one for key, one in names.items() if weights.is_float(key) and 0 not in weights.tensors[key].shape}
    whole = {module: factors for module, parts in by_module(full).items() if (factors := pair_of(parts))}
    kinds = Counter(tuple(weights.tensors[key].shape for key in keys) for keys in whole.values())
    first: dict[tuple[str, ...], str] = {}
    found: dict[str, str] = {}
    for module, keys in sorted(whole.items(), key=lambda one: numbers_in(one[0])):
        if kinds[tuple(weights.tensors[key].shape for key in keys)] == 1:
            continue
        original = first.setdefault(tuple(weights.digest(key) for key in keys), module)
        if original != module and weights.values(keys[1]).any():
            found[module] = original
    return found


def numbers_in(key: str) -> list[int]:
    """Return the numbers of a tensor's name, by which layers and experts ascend."""
    return [int(one) for one in re.findall(r"\d+", key)]
