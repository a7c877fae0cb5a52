"""Measures the rows behind a tokenizer's last id: do the first of them stand out from the rest?

Knows no token. Training adds tokens behind the last one; the rest of the rows pads the matrix and was never trained.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.checkpoint.weights import WeightFiles
from service.domain.facts import NamelessRow

Rows = NDArray[np.float64]
MAX_ROWS = 1000
MIN_REST = 8
"""Fewer rows are no measure of what padding looks like."""
PARALLEL = 0.99
"""Cosine from which rows have one direction, as resizing leaves them."""
COMMON = 0.5
FLOOR = 1e-4
"""What storing in 16 bits turns a row by."""


def nameless_rows(
    weights: WeightFiles, embedding: str | None, head: str | None, num_known: int, unwritten: Sequence[int]
) -> tuple[NamelessRow, ...]:
    """Compare the first half of the rows behind the last id with the second; nothing if there are too few.

    Args:
        weights: The tensors.
        embedding: The input matrix.
        head: The output matrix; the input matrix stands for it if there is none.
        num_known: Ids of the tokenizer.
        unwritten: Ids below, of bytes that no text holds.
    """
    if embedding is None:
        return ()
    head = head or embedding
    num_rows = min(weights.tensors[one].shape[0] for one in (embedding, head))
    ids = list(range(num_known, min(num_rows, num_known + MAX_ROWS)))
    inputs, outputs = _rows(weights, embedding, ids), _rows(weights, head, ids)
    if not ids or not (np.isfinite(inputs).all() and np.isfinite(outputs).all()):
        return ()
    kept = _distinct(inputs, outputs)
    first, rest = kept[: len(kept) // 2], kept[len(kept) // 2 :]
    if len(rest) < MIN_REST or ids[0] not in {ids[one] for one in first}:
        return ()
    longest = float(np.linalg.norm(inputs[rest], axis=1).max())
    turned = _turns(outputs, outputs[rest])
    farthest = max(float(turned[rest].max()), FLOOR)
    own = _rows(weights, head, list(unwritten)) if len(unwritten) >= MIN_REST else outputs[:0]
    own_turns = _turns(own, own) if len(own) and np.isfinite(own).all() and own.any(axis=1).all() else np.ones(1)
    is_measure = float(own_turns.max()) < 1 - COMMON
    if not is_measure and 1 - float(_turns(inputs[rest], inputs[rest]).max()) > PARALLEL:
        return ()  # rows of a resize behind rows of the producer's own padding look so too
    beside = _turns(outputs, own) / max(float(own_turns.max()), FLOOR) if is_measure else np.full(len(ids), np.inf)
    lengths = np.linalg.norm(inputs, axis=1) / longest
    return tuple(
        NamelessRow(ids[one], float(lengths[one]), float(min(turned[one] / farthest, beside[one]))) for one in first
    )


def _rows(weights: WeightFiles, name: str, ids: list[int]) -> Rows:
    """Read rows in float64: squares of large values leave float32."""
    return weights.rows(name, ids).astype(np.float64)


def _distinct(inputs: Rows, outputs: Rows) -> list[int]:
    """Leave out rows of zeros and all but the first of equal ones."""
    seen: dict[bytes, int] = {}
    for place, (one, other) in enumerate(zip(inputs, outputs, strict=True)):
        if one.any() and other.any():
            seen.setdefault(one.tobytes(), place)
    return sorted(seen.values())


def _turns(rows: Rows, others: Rows) -> Rows:
    """Return 1 minus the cosine of each row with the mean of others."""
    mean = others.mean(axis=0)
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(mean)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines: Rows = np.nan_to_num(rows @ mean / lengths)
    return 1 - cosines
