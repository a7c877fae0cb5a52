"""Says what single rows of a vocabulary matrix look like: as before training, as those that no text reaches, or sound.

Pure arithmetic on facts. Knows no role of a token; what follows from a state is decided in the checks.
"""

import math
import statistics
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Any

from service.domain.facts import BaseFacts, MatrixFacts, RowFacts

RESIZE_COSINE = 0.999
"""Rows made by `resize_token_embeddings` are drawn around the mean with a variance of 1e-9."""
NEAR_ZERO = 1e-3
"""Share of the median length below which a row says nothing."""
NORM_MARGIN = 0.05
"""A row is as long as unused rows if it is shorter than the shortest, or longer than the longest, by at most this."""
MOST_SPREAD = 2.0
"""Unused rows of one kind are about as long as one another; where new ones lie beside old ones, they are no measure."""
CLEAR_MARGIN = 0.3
"""A row that is longer than every unused one by this share was trained."""
MIN_COMMON_COSINE = 0.9
"""Unused rows that are less alike, as random ones and noisy means are, have no direction that a row could share."""
MIN_TURN = 1e-5
"""Training turns a row by more; rounding to 16 bits and weight decay by less."""
UNRELATED = 0.7
"""1 minus the cosine of rows that have little to do with each other."""
BROKEN_LENGTH, ODD_LENGTH, ODD_BEYOND_HIGH = 50.0, 10.0, 4.0
"""How many medians, and 99th percentiles, long a row must be."""
SHORT_LENGTH = 0.1
"""Share of the median and of the 1st percentile that a row must be shorter than."""
FRESH_DEVIATIONS = 3.5
SCATTERED_DEVIATIONS = 4.0
MIN_FRESH_ROWS = 2
LONE_FACTOR = 1.5
DEFAULT_INITIALIZER_RANGE = 0.02
NEAR_MEAN_COSINE, NEAR_MEAN_LENGTH = 0.95, 0.5
"""A row that is shorter than half the 1st percentile may be the mean of some of the rows only."""


def initial_state(row: RowFacts, matrix: MatrixFacts | None = None) -> str | None:
    """Say in which state from before training a row is, or None if it was trained."""
    if not row.is_finite:
        return None  # broken, which finite_weights says
    if row.norm == 0:
        return "is zero"
    norms = matrix.norms if matrix else None
    if norms and row.norm < NEAR_ZERO * norms.median:
        return f"is as good as zero (length {row.norm:.2g}, the median of all rows is {norms.median:.2g})"
    is_short = norms is not None and row.norm < NEAR_MEAN_LENGTH * norms.low
    limit = NEAR_MEAN_COSINE if is_short else RESIZE_COSINE
    return "is the mean of all rows, as resizing leaves it" if row.cosine_to_mean > limit else None


def looks_unused(
    row: RowFacts | None, embedding: MatrixFacts | None, other: RowFacts | None, head: MatrixFacts
) -> bool:
    """Say whether a token's rows look like those that no text reaches.

    In length on the input side, in length and direction on the output side.
    """
    return is_as_long(row, embedding) and is_as_turned(other, head)


def is_as_long(row: RowFacts | None, matrix: MatrixFacts | None, leaving_out: Collection[str] = ()) -> bool:
    """Say whether a row is as long as unused rows of one kind; those of length 0 are no measure.

    Args:
        row: Of a token.
        matrix: Its matrix.
        leaving_out: Kinds of unused rows that do not count.
    """
    if row is None or matrix is None:
        return False
    return any(
        one.min_norm * (1 - NORM_MARGIN) <= row.norm <= one.max_norm * (1 + NORM_MARGIN)
        for kind, one in matrix.unused.items()
        if kind not in leaving_out and one.min_norm > 0 and one.max_norm <= MOST_SPREAD * one.min_norm
    )


def is_as_turned(row: RowFacts | None, matrix: MatrixFacts | None) -> bool:
    """Say whether a row is as long as unused ones and at most twice as far off their direction, if they have one."""
    if row is None or matrix is None or not is_as_long(row, matrix):
        return False
    return any(
        kind in row.cosine_to_unused and 1 - row.cosine_to_unused[kind] <= 2 * (1 - one.min_cosine)
        for kind, one in matrix.unused.items()
        if one.min_cosine >= MIN_COMMON_COSINE
    )


def is_clear(row: RowFacts | None, matrix: MatrixFacts | None) -> bool:
    """Say whether a row was trained beyond doubt: it is much longer than every row that no text reaches."""
    if row is None or matrix is None or not matrix.unused or not row.is_finite:
        return False
    return row.norm > (1 + CLEAR_MARGIN) * max(one.max_norm for one in matrix.unused.values())


def broken_length(norm: float, matrix: MatrixFacts) -> bool:
    """Say whether a row is longer than training makes any."""
    norms = matrix.norms
    return norms is not None and norm > BROKEN_LENGTH * norms.median and norm > ODD_BEYOND_HIGH * norms.high


def odd_length(norm: float, matrix: MatrixFacts) -> str | None:
    """Say that a row is far longer or shorter than all others, or None."""
    norms = matrix.norms
    if norms is None or norm == 0:
        return None
    if norm > ODD_LENGTH * norms.median and norm > ODD_BEYOND_HIGH * norms.high:
        return f"is {norm / norms.median:.3g} times as long as the median row"
    if norm < SHORT_LENGTH * min(norms.median, norms.low):
        return f"is {norms.median / norm:.3g} times shorter than the median row"
    return None


def look_fresh(rows: Sequence[RowFacts | None], hidden_size: int, base: BaseFacts) -> bool:
    """Say whether all rows are as long as fresh random ones, in a model whose input rows are not all so.

    transformers up to 4.45 draws new rows from a normal distribution of deviation `initializer_range`; their lengths
    follow from it to a few percent.
    """
    expected, tolerance = _fresh_length(hidden_size, base)
    if len(rows) < MIN_FRESH_ROWS or not is_trained(base):
        return False
    return all(row is not None and abs(row.norm - expected) <= tolerance for row in rows)


def are_scattered(ids: Collection[int], matrix: MatrixFacts) -> bool:
    """Say whether output rows have no direction in common with the mean of all, which the others have.

    Every step of training pushes all output rows along one direction; fresh random ones point anywhere.
    """
    limit = SCATTERED_DEVIATIONS / math.sqrt(matrix.hidden_size)
    cosines = {one: abs(row.cosine_to_mean) for one, row in matrix.rows.items() if row.is_finite}
    others = [cosine for one, cosine in cosines.items() if one not in ids]
    if not others or statistics.median(others) < 2 * limit:
        return False
    return all(one in cosines and cosines[one] < limit for one in ids)


def is_lone_fresh(row: RowFacts, matrix: MatrixFacts, base: BaseFacts) -> bool:
    """Say whether a row is as long as a fresh random one, and nearly all rows of its matrix are far from that."""
    expected, tolerance = _fresh_length(matrix.hidden_size, base)
    norms = matrix.norms
    if norms is None or abs(row.norm - expected) > tolerance:
        return False
    return not norms.low / LONE_FACTOR < row.norm < norms.high * LONE_FACTOR


def is_drawn_anew(token_id: int, base: BaseFacts) -> bool:
    """Say whether both rows of a token are fresh random ones, in a model that is not so throughout.

    Both are as long as those, the output row shares no direction with the trained ones, and in one of the matrices, or
    in the only one, nearly no other row is as long.
    """
    inputs, outputs = base.embedding, base.head or base.embedding
    if inputs is None or outputs is None:
        return False
    sides = [(matrix, row) for matrix in (inputs, outputs) if (row := matrix.rows.get(token_id)) is not None]
    if len(sides) < 2 or not all(_is_fresh_length(row, matrix, base) for matrix, row in sides):
        return False
    is_lone = any(is_lone_fresh(row, matrix, base) for matrix, row in sides)
    return is_lone and are_scattered([token_id], outputs)


def _is_fresh_length(row: RowFacts, matrix: MatrixFacts, base: BaseFacts) -> bool:
    expected, tolerance = _fresh_length(matrix.hidden_size, base)
    return row.is_finite and abs(row.norm - expected) <= tolerance


def is_fresh_matrix(matrix: MatrixFacts | None, other: MatrixFacts | None, base: BaseFacts) -> bool:
    """Say whether 98 of 100 rows of a matrix are as long as fresh random ones, and many of the other's are not."""
    if matrix is None or other is None or matrix.norms is None or other.norms is None:
        return False
    expected, tolerance = _fresh_length(matrix.hidden_size, base)
    low, high = expected - tolerance, expected + tolerance
    is_fresh = low <= matrix.norms.low and matrix.norms.high <= high
    return is_fresh and not low - tolerance <= other.norms.upper <= high + tolerance


def is_trained(base: BaseFacts) -> bool:
    """Say whether a tenth of the base's input rows are longer than fresh random ones."""
    if base.embedding is None or base.embedding.norms is None:
        return False
    expected, tolerance = _fresh_length(base.embedding.hidden_size, base)
    return abs(base.embedding.norms.upper - expected) > 2 * tolerance


def _fresh_length(hidden_size: int, base: BaseFacts) -> tuple[float, float]:
    deviation = initializer_range(base.documents.get("config.json", {}))
    return deviation * math.sqrt(hidden_size), FRESH_DEVIATIONS * deviation / math.sqrt(2)


def same_rows(rows: Sequence[RowFacts]) -> bool:
    """Say whether rows of several tokens are one and the same."""
    return len(rows) > 1 and all(left.digest == right.digest for left, right in pairwise(rows))


def initializer_range(config: Any) -> float:
    """Return the deviation with which the language model's class draws weights."""
    text = config.get("text_config")
    for part in (text if isinstance(text, dict) else {}, config):
        value = part.get("initializer_range")
        if isinstance(value, float) and value > 0:
            return value
    return DEFAULT_INITIALIZER_RANGE
