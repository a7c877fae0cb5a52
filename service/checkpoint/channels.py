"""Compares the rows of a linear attention's projection with the kernels of the convolution behind it.

Each channel passes through one row and one kernel, and training lengthens both together. Knows no threshold.

Source: modeling_qwen3_5.py and modeling_qwen3_next.py of transformers 5.23 for both orders of rows.
"""

import math
from collections.abc import Collection, Iterator

import numpy as np
from numpy.typing import NDArray

from service.checkpoint.weights import WeightFiles
from service.domain.facts import ChannelFacts

PROJECTION, CONVOLUTION = "in_proj_qkv.weight", "conv1d.weight"
DECAYS, NORM = "A_log", "norm.weight"
"""As long as there are value heads, and as a value head is wide."""
MOST_LAYERS = 8
"""A conversion treats all layers alike."""
SHORTEST = 1e-3
"""Of the longest."""
BY_KEY_HEAD = "by {} key heads, each with its queries, keys and values"


def channel_orders(weights: WeightFiles, names: Collection[str]) -> dict[str, ChannelFacts]:
    """Describe the first layers with linear attention, by the name of the projection.

    Args:
        weights: The tensors.
        names: Those that may be read: finite, and not zero throughout.
    """
    found: dict[str, ChannelFacts] = {}
    for name in names:
        if name.endswith(f".{PROJECTION}") and len(found) < MOST_LAYERS and (facts := _of_layer(weights, names, name)):
            found[name] = facts
    return found


def _of_layer(weights: WeightFiles, names: Collection[str], name: str) -> ChannelFacts | None:
    layer = name.removesuffix(PROJECTION)
    wanted = [layer + one for one in (CONVOLUTION, DECAYS, NORM)]
    if any(one not in names for one in wanted) or not weights.is_matrix(name):
        return None
    num_channels, num_heads, width = weights.tensors[name].shape[0], *(weights.num_values(one) for one in wanted[1:])
    keys = (num_channels - num_heads * width) // 2
    is_split = keys > 0 and 2 * keys + num_heads * width == num_channels
    if not is_split or weights.tensors[wanted[0]].shape[:1] != (num_channels,) or not weights.num_values(wanted[0]):
        return None
    rows, kernels = _lengths(weights, name), _lengths(weights, wanted[0])
    size = math.gcd(keys, width)
    return ChannelFacts(
        num_channels=num_channels,
        likeness=_likeness(rows, kernels, size),
        in_order={
            order: _likeness(rows[places], kernels, size)
            for order, places in _orders(keys, num_heads * width, num_heads)
        },
    )


def _orders(keys: int, values: int, num_heads: int) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """Yield where each channel's row stands if rows are grouped by key head, for each number of key heads.

    Args:
        keys: Channels of all keys, and of all queries.
        values: Channels of all values.
        num_heads: Value heads, of which a key head has one or some.
    """
    for count in range(2, num_heads + 1):
        if num_heads % count or keys % count:
            continue
        stored = np.arange(2 * keys + values).reshape(count, -1)
        parts = np.split(stored, [keys // count, 2 * keys // count], axis=1)
        yield BY_KEY_HEAD.format(count), np.concatenate([one.ravel() for one in parts])


def _lengths(weights: WeightFiles, name: str) -> NDArray[np.float64]:
    """Return the logarithm of each row's length `(channels,)`; of a row of zeros that of a very short one."""
    count = weights.tensors[name].shape[0]
    values = np.concatenate(list(weights.float_pieces(name))).reshape(count, -1)
    lengths = np.sqrt(np.einsum("ij,ij->i", values, values, dtype=np.float64))
    logarithms: NDArray[np.float64] = np.log(np.maximum(lengths, SHORTEST * lengths.max()))
    return logarithms


def _likeness(rows: NDArray[np.float64], kernels: NDArray[np.float64], size: int) -> float:
    """Correlate within stretches of so many channels, so that no head's mean counts."""
    left, right = (one.reshape(-1, size) - one.reshape(-1, size).mean(axis=1, keepdims=True) for one in (rows, kernels))
    scale = float(np.linalg.norm(left) * np.linalg.norm(right))
    return float((left * right).sum()) / scale if scale > 0 else 0.0
