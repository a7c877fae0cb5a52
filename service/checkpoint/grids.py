"""Recognises matrices that were rounded to 4 or 8 bits and written out again, as training on such a base leaves them.

Knows no adapter; does not know whether rounding is welcome.
"""

import numpy as np
from numpy.typing import NDArray

from service.checkpoint.weights import FloatArray

BLOCK = 32
"""Values that share a scale in every usual format; larger groups are multiples of it."""
LEVELS = 16
"""Different values that 4 bits allow in a block."""
NOISE = 2**-8
"""What storing in 16 bits changes, relative to a value, at most twice."""
MOST_NOISE = 0.03
"""Of a block's deviation: where storing changes more, levels cannot be told from other values."""
MIN_BLOCKS = 8
SHARE = 0.9
FARTHEST = 0.2
"""Length of what rounding to 4 bits changes, relative to a matrix, at most."""
GROUPS = (0, 32, 64, 128)
"""Values that share a scale in formats of 8 bits; 0 for a whole row."""
HIT = 0.98


def rounded_bits(before: FloatArray, after: FloatArray, stored: FloatArray) -> int:
    """Say to how many bits a matrix was rounded: 4, 8, or 0 for neither.

    Args:
        before: As it was, `(rows, width)`, or some of its rows.
        after: As it is, less what else was added to it.
        stored: As it lies in the file, with what was added.
    """
    if before.shape != after.shape or before.shape[1] % BLOCK or not np.isfinite(after).all():
        return 0
    change, length = np.linalg.norm(after - before), np.linalg.norm(before)
    if not 0 < change < FARTHEST * length:
        return 0
    noise = np.float32(NOISE) * (np.abs(stored) + np.abs(stored - after))
    if _has_few_levels(after, noise) and not _has_few_levels(before, noise):
        return 4
    return 8 if any(_is_rounded(before, after, noise, group) for group in GROUPS) else 0


def _has_few_levels(values: FloatArray, noise: FloatArray) -> bool:
    """Count the different values in every block, up to what storing blurs."""
    blocks, blur = values.reshape(-1, BLOCK), 2 * noise.reshape(-1, BLOCK).max(axis=1)
    deviation = blocks.std(axis=1)
    is_clear: NDArray[np.bool_] = (deviation > 0) & (blur < MOST_NOISE * deviation)
    if np.count_nonzero(is_clear) < MIN_BLOCKS:
        return False
    gaps = np.diff(np.sort(blocks[is_clear], axis=1), axis=1)
    levels = 1 + (gaps > blur[is_clear, None]).sum(axis=1)
    return bool((levels <= LEVELS).mean() > SHARE)


def _is_rounded(before: FloatArray, after: FloatArray, noise: FloatArray, group: int) -> bool:
    """Round as formats of 8 bits do, to 127 steps up to a group's largest value, and compare."""
    width = group or before.shape[1]
    if before.shape[1] % width:
        return False
    old, new, blur = (one.reshape(-1, width) for one in (before, after, noise))
    step = np.abs(old).max(axis=1, keepdims=True) / np.float32(127)
    step = np.where(step > 0, step, np.float32(1))
    is_telling = np.abs(np.rint(old / step) * step - old) > blur
    is_hit = np.abs(np.rint(old / step) * step - new) <= blur
    return bool(is_telling.mean() > 1 - HIT and is_hit[is_telling].mean() > HIT)
