"""Where patches are: rows of the tower's learned table, and sine and cosine vectors of the resampler.

Knows grids and numbers of frames; knows no model. Everything is computed in the precision and the order that the
official code's results show, because the last bit decides to which row of the table a patch belongs.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch

Grid = tuple[int, int]
"""Height and width of a slice in patches."""
BLOCK, LANES = 16, 8
"""How PyTorch's `arange` goes through a range on a CPU: blocks of two vectors; what is left goes one by one."""
BASE = 10000.0
KEPT_TABLES = 32


def table_rows(grids: Sequence[Grid], side: int) -> torch.Tensor:
    """Return the row of the learned `side` x `side` table for each patch of all slices, `(patches,)` int64.

    A longer axis has several patches in one row of the table; nothing is interpolated.
    """
    rows = [
        (axis_buckets(height, side)[:, None] * side + axis_buckets(width, side)[None]).reshape(-1)
        for height, width in grids
    ]
    return torch.from_numpy(np.concatenate(rows))


@lru_cache(maxsize=1024)
def axis_buckets(patches: int, side: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the bucket of each of n patches along an axis that is cut into `side` parts, `(n,)`.

    Patch i lies at i/n, rounded as `torch.arange(0, 1 - 1e-6, 1 / n)` in float32 rounds it on a CPU: within whole
    blocks, a vector's first number is rounded before the others are added to it. Any cleaner formula differs for some
    of the lengths that pictures have (49, 58, 77, 86, ...).
    """
    step = np.float64(np.float32(1) / np.float32(patches))
    index = np.arange(patches)
    first = (index // LANES * LANES * step).astype(np.float32).astype(np.float64)
    in_blocks = (first + index % LANES * step).astype(np.float32)
    left = (index * step).astype(np.float32)
    coordinates = np.where(index < patches // BLOCK * BLOCK, in_blocks, left)
    boundaries = (1 / side + np.arange(side - 1) * (1 / side)).astype(np.float32)
    return np.searchsorted(boundaries, coordinates, side="right").astype(np.int64)


def grid_vectors(grid: Grid, like: torch.Tensor) -> torch.Tensor:
    """Return the resampler's vectors of a slice's patches, row by row, `(height x width, size)`.

    The first half of each says the column, the second the row. Only the vectors of both axes, computed in float32, are
    cast and copied to the device: those of all patches are a hundred times as many bytes.

    Args:
        grid: Of the slice.
        like: `(..., size)`, of the type and on the device that the vectors are to have.
    """
    height, width = grid
    size = like.shape[-1]
    columns, rows = (_axis_vectors(_round_up(one), size // 2)[:one].to(like) for one in (width, height))
    return torch.cat([columns[None].expand(height, -1, -1), rows[:, None].expand(-1, width, -1)], dim=-1).reshape(
        height * width, size
    )


def time_vectors(moments: Sequence[int], size: int) -> torch.Tensor:
    """Return the resampler's vectors of moments, in tenths of a second, `(moments, size)` float32 on the CPU."""
    return torch.from_numpy(_waves(np.asarray(moments, dtype=np.float32), size))


@lru_cache(maxsize=KEPT_TABLES)
def _axis_vectors(length: int, size: int) -> torch.Tensor:
    return torch.from_numpy(_waves(np.arange(length, dtype=np.float32), size))


def _waves(places: np.ndarray, size: int) -> np.ndarray:
    """Return sines, then cosines, of places times falling frequencies, `(places, size)` float32."""
    powers = np.arange(size // 2, dtype=np.float32) / np.float32(size / 2)
    angles = np.outer(places, np.float32(1) / np.float32(BASE) ** powers)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def _round_up(length: int) -> int:
    """Round to a power of two, so that few tables are kept."""
    return 1 << max(length - 1, 0).bit_length()
