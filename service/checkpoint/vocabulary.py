"""Measures the two vocabulary matrices: rows, norms, hashes, resemblance to the mean and to spare rows.

Does not know which numbers are good.
"""

import hashlib
import math
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.checkpoint.weights import FloatArray, WeightFiles
from service.domain.facts import MatrixFacts, RowFacts, SpareFacts, ValueFacts
from service.domain.facts.rows import BEHIND

EMBEDDING_SUFFIXES = ("embed_tokens.weight", "word_embeddings.weight", "tok_embeddings.weight", "wte.weight")
HEAD_SUFFIXES = ("lm_head.weight", "embed_out.weight", "output_projection.weight")
MAX_SPARE = 1000
"""More are not read."""
MIN_SPARE = 5
"""Fewer spare rows have no meaningful mean."""


def find_embedding(weights: WeightFiles) -> str | None:
    """Name the tensor that holds the input embeddings: of those with a usual name, the one with most rows."""
    return _find(weights, EMBEDDING_SUFFIXES)


def find_head(weights: WeightFiles) -> str | None:
    """Name the tensor that holds the output head."""
    return _find(weights, HEAD_SUFFIXES)


def measure_matrix(weights: WeightFiles, name: str, ids: Collection[int], spare: Collection[int]) -> MatrixFacts:
    """Read a vocabulary matrix once and describe it.

    Args:
        weights: The folder's tensors.
        name: The matrix, `(rows, hidden)`.
        ids: The rows to describe one by one; ids without a row are left out.
        spare: Ids behind the tokenizer's last one, which no text reaches.
    """
    num_rows, hidden = weights.tensors[name].shape
    norms, total, num_nonfinite, is_all_zero = _scan(weights, name)
    wanted = sorted({one for one in ids if 0 <= one < num_rows})
    spare_rows = weights.rows(name, sorted({one for one in spare if 0 <= one < num_rows} - set(wanted))[:MAX_SPARE])
    has_spare = len(spare_rows) >= MIN_SPARE and bool(np.isfinite(spare_rows).all())
    spare_mean = spare_rows.mean(axis=0) if has_spare else None
    sorted_norms = np.sort(norms)
    rows = {
        one: _describe(row, sorted_norms, total, spare_mean)
        for one, row in zip(wanted, weights.rows(name, wanted), strict=True)
    }
    return MatrixFacts(
        tensor=name,
        num_rows=num_rows,
        hidden_size=hidden,
        dtype=weights.tensors[name].dtype,
        digest=weights.digest(name),
        values=ValueFacts(num_rows * hidden, num_nonfinite, is_all_zero),
        rows=rows,
        unused={} if spare_mean is None else {BEHIND: _describe_spare(spare_rows, spare_mean)},
    )


def row_digest(row: FloatArray) -> str:
    """Hash a row's float32 values, so that rows stored in different types can be compared."""
    return hashlib.blake2b(np.ascontiguousarray(row, dtype=np.float32).tobytes(), digest_size=12).hexdigest()


def turn(old: FloatArray, new: FloatArray) -> float:
    """Return 1 minus the cosine of two rows: 0 if the new one is zero, 1 if the old one is or a value is not finite."""
    if np.array_equal(old, new) or not new.any():
        return 0.0
    if not (np.isfinite(old).all() and np.isfinite(new).all() and old.any()):
        return 1.0
    return max(0.0, 1.0 - _cosine(old, new))


def tensor_turn(chunks: Iterable[tuple[FloatArray, FloatArray]]) -> float:
    """Return what `turn` does, for two whole tensors that are given piece by piece, old and new.

    Values that are not finite in either count as a full turn.
    """
    product, old_square, new_square = 0.0, 0.0, 0.0
    is_equal = True
    for old, new in chunks:
        is_equal = is_equal and np.array_equal(old, new)
        is_finite = np.isfinite(old).all() and np.isfinite(new).all()
        if not is_finite:
            return 1.0
        wide_old, wide_new = old.astype(np.float64), new.astype(np.float64)
        product += float(wide_old @ wide_new)
        old_square += float(wide_old @ wide_old)
        new_square += float(wide_new @ wide_new)
    if is_equal or new_square == 0:
        return 0.0
    if old_square == 0:
        return 1.0
    return max(0.0, 1.0 - product / math.sqrt(old_square) / math.sqrt(new_square))


def _find(weights: WeightFiles, suffixes: tuple[str, ...]) -> str | None:
    found = [name for name in weights.tensors if name.endswith(suffixes) and weights.is_matrix(name)]
    return max(found, key=lambda name: weights.tensors[name].shape[0], default=None)


def _scan(weights: WeightFiles, name: str) -> tuple[FloatArray, NDArray[np.float64], int, bool]:
    norms: list[FloatArray] = []
    total = np.zeros(weights.tensors[name].shape[1], dtype=np.float64)
    num_nonfinite, is_all_zero = 0, True
    for chunk in weights.row_chunks(name):
        is_finite = np.isfinite(chunk)
        num_broken = int(chunk.size - np.count_nonzero(is_finite))
        num_nonfinite += num_broken
        if num_broken:
            chunk = np.where(is_finite, chunk, 0)
        with np.errstate(over="ignore"):
            chunk_norms = np.sqrt(np.einsum("ij,ij->i", chunk, chunk))
        is_all_zero = is_all_zero and not chunk_norms.any()
        norms.append(chunk_norms)
        total += chunk.sum(axis=0, dtype=np.float64)
    return np.concatenate(norms), total, num_nonfinite, is_all_zero


def _describe(
    row: FloatArray, sorted_norms: FloatArray, total: NDArray[np.float64], spare: FloatArray | None
) -> RowFacts:
    is_finite = bool(np.isfinite(row).all())
    others = total - row  # in the direction of the mean of all other rows, as resizing saw it
    norm = _length(np.where(np.isfinite(row), row, 0))
    return RowFacts(
        norm=norm,
        norm_percentile=100.0 * float(np.searchsorted(sorted_norms, norm)) / max(len(sorted_norms), 1),
        cosine_to_mean=_cosine(row, others) if is_finite else 0.0,
        cosine_to_unused={BEHIND: _cosine(row, spare)} if is_finite and spare is not None else {},
        is_finite=is_finite,
        digest=row_digest(row),
    )


def _describe_spare(rows: FloatArray, mean: FloatArray) -> SpareFacts:
    norms = [_length(one) for one in rows]
    return SpareFacts(len(rows), min(norms), max(norms), min(_cosine(one, mean) for one in rows))


def _cosine(left: NDArray[Any], right: NDArray[Any]) -> float:
    product = _length(left) * _length(right)
    return float(left.astype(np.float64) @ right.astype(np.float64)) / product if product > 0 else 0.0


def _length(row: NDArray[Any]) -> float:
    """Compute in float64: squares of large float32 values overflow."""
    return float(np.linalg.norm(row.astype(np.float64)))
