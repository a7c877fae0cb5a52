"""Finds out whether two vocabulary matrices number their rows alike.

Knows no token. A token that is rare in training is rare on both sides: its input row stays short, its output row stays
near those of tokens that never occur. If input rows fit output rows better at other ids than at their own, one matrix
was moved.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.domain.facts import Shift

MAX_SHIFT = 64
MIN_ROWS = 500
MIN_FIT = 0.2
"""Rank correlation that is no chance."""
MIN_LEAD = 4.0
"""How much better another place must fit, in standard errors of a correlation of unrelated rows."""


def find_shift(input_norms: NDArray[Any], output_distances: NDArray[Any], num_known: int | None) -> Shift | None:
    """Say by how many ids the input rows would have to move to fit the output rows; None if they fit where they are.

    Args:
        input_norms: Lengths of input rows, `(rows,)`.
        output_distances: How far output rows are from those that are never written, `(rows,)`.
        num_known: Ids that the tokenizer has; rows behind them are left out.
    """
    num_rows = min(len(input_norms), len(output_distances), num_known or len(input_norms))
    if num_rows < MIN_ROWS:
        return None
    left, right = _ranks(input_norms[:num_rows]), _ranks(output_distances[:num_rows])
    inner = right[MAX_SHIFT:-MAX_SHIFT]
    fits = {}
    for shift in range(-MAX_SHIFT, MAX_SHIFT + 1):
        moved = left[MAX_SHIFT - shift : num_rows - MAX_SHIFT - shift]
        fits[shift] = abs(_correlation(moved, inner))  # in some models frequent tokens have short rows
    best = max(fits, key=lambda one: fits[one])
    lead = MIN_LEAD / len(inner) ** 0.5
    rivals = [fit for shift, fit in fits.items() if shift != best]
    if best == 0 or fits[best] < MIN_FIT or fits[best] - fits[0] < lead or fits[best] - max(rivals) < lead / 2:
        return None
    return Shift(best, fits[best], fits[0], max(rivals), "rank correlation of input lengths with output distances")


def _ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    ranks = np.empty(len(values), dtype=np.float64)
    ranks[np.argsort(np.nan_to_num(values), kind="stable")] = np.arange(len(values))
    return ranks


def _correlation(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    left, right = left - left.mean(), right - right.mean()
    length = float(np.sqrt((left @ left) * (right @ right)))
    return float(left @ right) / length if length > 0 else 0.0
