"""Compares an adapter's tensors with one another, and with the base's of the same name.

Does not know which resemblance is a fault.
"""

import re
from collections import defaultdict
from collections.abc import Mapping

from service.checkpoint.vocabulary import EMBEDDING_SUFFIXES, HEAD_SUFFIXES, tensor_turn
from service.checkpoint.weights import WeightFiles

LAYER = re.compile(r"\.\d+\.")
FACTOR = re.compile(r"\.lora_(A|B)\b")
NOTHING_IN_COMMON = 0.9
"""1 minus the cosine; training turns matrices by a few hundredths."""
MIN_VALUES = 1024
"""Smaller matrices may be unlike by chance."""
MAX_ROWS = 64
"""Rows that stand for a matrix."""


def repeated_tensors(weights: WeightFiles, names: Mapping[str, str]) -> dict[str, str]:
    """Find LoRA factors that are those of an earlier layer.

    Args:
        weights: The adapter's tensors.
        names: Short name of each by its key.
    """
    kinds: dict[tuple[str, tuple[int, ...], str], list[str]] = defaultdict(list)
    for key in weights.tensors:
        tensor = weights.tensors[key]
        if FACTOR.search(key) and weights.is_float(key) and 0 not in tensor.shape:
            kinds[LAYER.sub(".*.", key), tensor.shape, tensor.dtype].append(key)
    found: dict[str, str] = {}
    for keys in kinds.values():
        first: dict[str, str] = {}
        for key in sorted(keys, key=_numbers) if len(keys) > 1 else ():
            original = first.setdefault(weights.digest(key), key)
            if original != key:
                found[names[key]] = names[original]
    return found


def unrelated_matrices(weights: WeightFiles, names: Mapping[str, str], base: WeightFiles) -> dict[str, float]:
    """Find matrices that an adapter brings whole and that are not the base's, changed. The vocabulary's are left out.

    Args:
        weights: The adapter's tensors.
        names: Name in the base of each by its key.
        base: The base's tensors.
    """
    found = {}
    for key, name in names.items():
        if name not in base.tensors or name.endswith((*EMBEDDING_SUFFIXES, *HEAD_SUFFIXES)):
            continue
        if not (weights.is_matrix(key) and base.is_matrix(name)):
            continue
        shape = weights.tensors[key].shape
        if shape != base.tensors[name].shape or shape[0] * shape[1] < MIN_VALUES:
            continue
        ids = list(range(0, shape[0], max(1, shape[0] // MAX_ROWS)))
        old, new = base.rows(name, ids).ravel(), weights.rows(key, ids).ravel()
        turn = tensor_turn([(old, new)])
        if old.any() and turn > NOTHING_IN_COMMON:
            found[name] = turn
    return dict(sorted(found.items()))


def _numbers(key: str) -> list[int]:
    return [int(one) for one in re.findall(r"\d+", key)]
