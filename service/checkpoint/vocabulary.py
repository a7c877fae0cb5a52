"""Measures the two vocabulary matrices: rows, norms, hashes, resemblance to the mean and to unused rows.

Does not know which numbers are good. Every matrix is read once, in pieces that fit a processor's cache.
"""

import hashlib
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.checkpoint.alignment import find_shift
from service.checkpoint.weights import FloatArray, Survey, WeightFiles
from service.domain.facts import MatrixFacts, NormFacts, RowFacts, RowHistogram, SpareFacts, ValueFacts

EMBEDDING_SUFFIXES = ("embed_tokens.weight", "word_embeddings.weight", "tok_embeddings.weight", "wte.weight")
HEAD_SUFFIXES = ("lm_head.weight", "embed_out.weight", "output_projection.weight")
MAX_UNUSED = 1000
"""More rows of one kind are not read."""
MIN_UNUSED = 5
"""Fewer unused rows have no meaningful mean."""
MAX_SAMPLE = 2048
"""Rows that stand for all where only their mean is needed."""
NUM_BINS = 48
MAX_TWINS = 3
MAX_CANDIDATES = 16
MAX_LENGTH = 1e30
"""A direction that is longer is no measure."""
SAME_NORM = 1e-6
"""Rows that are equal have lengths that differ by less, however their products were rounded."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look at in a vocabulary matrix.

    Attributes:
        ids: The rows to describe one by one; ids without a row are left out.
        unused: Ids that no text reaches, by kind.
        num_known: Ids that the tokenizer has: 0 to `num_known` - 1. None if there is no tokenizer.
    """

    ids: Collection[int]
    unused: Mapping[str, Collection[int]]
    num_known: int | None = None


@dataclass(frozen=True, slots=True)
class _Reference:
    """The direction that rows are compared with."""

    name: str
    direction: FloatArray
    kinds: Mapping[str, SpareFacts]
    means: Mapping[str, FloatArray]
    num_unused: int


@dataclass(frozen=True, slots=True)
class _Scan:
    """All rows of a matrix: `(rows,)` each but for the sum, which is `(hidden,)`."""

    norms: NDArray[np.float64]
    distances: FloatArray
    is_finite: NDArray[np.bool_]
    total: NDArray[np.float64]
    num_nonfinite: int
    is_all_zero: bool


def find_embedding(weights: WeightFiles) -> str | None:
    """Name the tensor that holds the input embeddings: of those with a usual name, the one with most rows."""
    return _find(weights, EMBEDDING_SUFFIXES)


def find_head(weights: WeightFiles) -> str | None:
    """Name the tensor that holds the output head."""
    return _find(weights, HEAD_SUFFIXES)


@contextmanager
def surveyed_beside(weights: WeightFiles, names: Iterable[str | None]) -> Iterator[None]:
    """Read matrices while other work is done; a failure is raised at the end."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        known = [one for one in names if one is not None]
        surveyed = pool.map(lambda one: _survey(weights, one), known)
        yield
        _ = list(surveyed)  # raises what failed


def measure_matrices(
    weights: WeightFiles, embedding: str | None, head: str | None, wanted: Wanted
) -> tuple[MatrixFacts | None, MatrixFacts | None]:
    """Measure input and output matrix side by side, and whether their rows belong together."""
    names = [one for one in (embedding, head) if one is not None]
    with ThreadPoolExecutor(max_workers=2) as pool:
        measured = dict(zip(names, pool.map(lambda name: _measure(weights, name, wanted), names), strict=True))
    inputs = measured.get(embedding) if embedding else None
    outputs = measured.get(head) if head else None
    if embedding is None or head is None or inputs is None or outputs is None:
        return inputs and inputs[0], outputs and outputs[0]
    if weights.is_same(embedding, weights, head):
        return inputs[0], replace(outputs[0], is_copy=True)
    return inputs[0], replace(outputs[0], shift=find_shift(inputs[1].norms, outputs[1].distances, wanted.num_known))


def measure_matrix(weights: WeightFiles, name: str, wanted: Wanted) -> MatrixFacts:
    """Read a vocabulary matrix, `(rows, hidden)`, once and describe it."""
    return _measure(weights, name, wanted)[0]


def _measure(weights: WeightFiles, name: str, wanted: Wanted) -> tuple[MatrixFacts, _Scan]:
    num_rows, hidden = weights.tensors[name].shape
    reference = _reference(weights, name, wanted)
    scan = _scan(weights, name, reference.direction)
    ids = sorted({one for one in wanted.ids if 0 <= one < num_rows})
    facts = MatrixFacts(
        tensor=name,
        num_rows=num_rows,
        hidden_size=hidden,
        dtype=weights.tensors[name].dtype,
        values=ValueFacts(num_rows * hidden, scan.num_nonfinite, scan.is_all_zero),
        rows=_describe_rows(weights, name, ids, scan, reference),
        unused=reference.kinds,
        num_unused=reference.num_unused,
        norms=_norm_facts(scan, wanted.num_known),
        histogram=_histogram(scan, reference.name),
    )
    return facts, scan


def describe_row(row: FloatArray, total: NDArray[np.float64]) -> RowFacts:
    """Describe a row by itself: one that is in no matrix yet, so that nothing says where among others it stands.

    Args:
        row: `(hidden,)`.
        total: Sum of the other rows.
    """
    is_finite = bool(np.isfinite(row).all())
    cosine = _cosine(row, total) if is_finite and np.isfinite(total).all() else 0.0
    return RowFacts(_finite_length(row), 0.0, cosine, is_finite, row_digest(row))


def row_total(weights: WeightFiles, name: str) -> NDArray[np.float64]:
    """Return the sum of all rows of a matrix, which is read if it has not been measured."""
    return _survey(weights, name).total


def twins(weights: WeightFiles, name: str, rows: Mapping[int, FloatArray]) -> dict[int, tuple[int, ...]]:
    """Find rows of a measured matrix that have the very same values as some others, the first few, by id of these.

    A row is not its own twin, and rows of zeros have none.
    """
    norms = _survey(weights, name).norms
    order = np.argsort(np.nan_to_num(norms, nan=np.inf), kind="stable")
    ascending = norms[order]
    found = {}
    for one, row in rows.items():
        norm = _length(row)
        if not (norm > 0 and math.isfinite(norm)):
            continue
        first, last = np.searchsorted(ascending, [norm * (1 - SAME_NORM), norm * (1 + SAME_NORM)])
        candidates = sorted({int(other) for other in order[first : min(last, first + MAX_CANDIDATES)]} - {one})
        same = [
            other for other, own in zip(candidates, weights.rows(name, candidates), strict=True) if (own == row).all()
        ]
        if same:
            found[one] = tuple(same[:MAX_TWINS])
    return found


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


def _reference(weights: WeightFiles, name: str, wanted: Wanted) -> _Reference:
    """Average the unused rows; where there are too few, a sample of all rows.

    Some tools pad a matrix with copies of a row in use: those do not count, and other copies count once.
    """
    num_rows = weights.tensors[name].shape[0]
    needed = set(wanted.ids).difference(*wanted.unused.values())
    used = {row.tobytes() for row in weights.rows(name, sorted(one for one in needed if 0 <= one < num_rows))}
    kinds, means = {}, {}
    every: list[FloatArray] = []
    for kind, ids in wanted.unused.items():
        chosen = [one for one in sorted(ids) if 0 <= one < num_rows][:MAX_UNUSED]
        distinct = {row.tobytes(): one for one, row in zip(chosen, weights.rows(name, chosen), strict=True)}
        chosen = sorted(one for values, one in distinct.items() if values not in used)
        rows = weights.rows(name, chosen)
        if not np.isfinite(rows).all():
            continue
        every.append(rows[rows.any(axis=1)])
        if len(rows) >= MIN_UNUSED:
            means[kind] = rows.mean(axis=0)
            kinds[kind] = _describe_unused(rows, means[kind], chosen)
    together = np.concatenate(every) if every else np.empty((0, weights.tensors[name].shape[1]), dtype=np.float32)
    if len(together) >= MIN_UNUSED:
        return _Reference("unused", together.mean(axis=0), kinds, means, len(together))
    sample = weights.rows(name, list(range(0, num_rows, max(1, num_rows // MAX_SAMPLE))))
    return _Reference("mean", np.nan_to_num(sample).mean(axis=0), kinds, means, len(together))


def _survey(weights: WeightFiles, name: str) -> Survey:
    """Read all rows once for what needs no other row."""
    if name in weights.surveys:
        return weights.surveys[name]
    squares: list[NDArray[np.float64]] = []
    total = np.zeros(weights.tensors[name].shape[1], dtype=np.float64)
    num_nonfinite = 0
    ones = np.ones(weights.rows_per_chunk(name), dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for chunk in weights.cached_row_chunks(name):
            square = np.vecdot(chunk, chunk).astype(np.float64)
            if not np.isfinite(square).all():  # a value is not finite, or its square is not
                is_finite = np.isfinite(chunk)
                num_nonfinite += int(chunk.size - np.count_nonzero(is_finite))
                chunk = np.where(is_finite, chunk, 0)
                square = np.where(is_finite.all(axis=1), np.square(chunk, dtype=np.float64).sum(axis=1), np.nan)
            squares.append(square)
            total += ones[: len(chunk)] @ chunk
    weights.surveys[name] = Survey(np.sqrt(np.concatenate(squares)), total, num_nonfinite)
    return weights.surveys[name]


def _scan(weights: WeightFiles, name: str, direction: FloatArray) -> _Scan:
    """Read all rows once more for how far each is from a direction."""
    survey = _survey(weights, name)
    length = _length(direction)
    unit = direction / np.float32(length) if 0 < length < MAX_LENGTH else np.zeros_like(direction)
    with np.errstate(over="ignore", invalid="ignore"):
        products = np.concatenate([np.nan_to_num(chunk @ unit) for chunk in weights.cached_row_chunks(name)])
        cosines = products / survey.norms
    is_finite = np.isfinite(survey.norms)
    distances = np.where(is_finite & (survey.norms > 0), 1 - cosines, np.nan).astype(np.float32)
    is_all_zero = bool(is_finite.all()) and not survey.norms.any()
    return _Scan(survey.norms, distances, is_finite, survey.total, survey.num_nonfinite, is_all_zero)


def _describe_rows(
    weights: WeightFiles, name: str, ids: list[int], scan: _Scan, reference: _Reference
) -> dict[int, RowFacts]:
    values = weights.rows(name, ids)
    sorted_norms = np.sort(np.where(scan.is_finite, scan.norms, np.inf))
    others_like = twins(weights, name, dict(zip(ids, values, strict=True)))
    sorted_distances = np.sort(scan.distances[np.isfinite(scan.distances)])
    described = {}
    for one, row in zip(ids, values, strict=True):
        norm, distance = float(scan.norms[one]), float(scan.distances[one])
        others = scan.total - row  # in the direction of the mean of all other rows, as resizing saw it
        fact = describe_row(row, others)
        is_placed = fact.is_finite and math.isfinite(distance)
        described[one] = replace(
            fact,
            norm_percentile=_percentile(sorted_norms, norm) if fact.is_finite else 0.0,
            cosine_to_unused={kind: _cosine(row, mean) for kind, mean in reference.means.items()} if is_placed else {},
            distance=distance if is_placed else None,
            distance_percentile=_percentile(sorted_distances, distance) if is_placed else None,
            twins=others_like.get(one, ()),
        )
    return described


def _norm_facts(scan: _Scan, num_known: int | None) -> NormFacts | None:
    known = scan.norms[:num_known]
    norms = known[np.isfinite(known) & (known > 0)]
    if not len(norms):
        return None
    low, median, upper, high = (float(one) for one in np.percentile(norms, [1, 50, 90, 99]))
    longest_id = int(np.argmax(np.where(np.isfinite(known), known, 0)))
    return NormFacts(low, median, upper, high, float(known[longest_id]), longest_id)


def _histogram(scan: _Scan, reference: str) -> RowHistogram | None:
    is_placed = np.isfinite(scan.distances) & (scan.norms > 0)
    num_nonfinite = int(len(scan.norms) - np.count_nonzero(scan.is_finite))
    num_zero = int(np.count_nonzero(scan.is_finite & (scan.norms == 0)))
    if not is_placed.any():
        return None
    counts, norm_edges, distance_edges = np.histogram2d(
        np.log10(scan.norms[is_placed].astype(np.float64)), scan.distances[is_placed].astype(np.float64), bins=NUM_BINS
    )
    return RowHistogram(
        reference,
        tuple(norm_edges.tolist()),
        tuple(distance_edges.tolist()),
        tuple(tuple(row) for row in counts.astype(int).tolist()),
        num_zero,
        num_nonfinite,
    )


def _describe_unused(rows: FloatArray, mean: FloatArray, ids: list[int]) -> SpareFacts:
    norms = [_length(one) for one in rows]
    cosines = [_cosine(one, mean) for one in rows]
    return SpareFacts(len(rows), min(norms), max(norms), min(cosines), median(cosines), tuple(ids[:MIN_UNUSED]))


def _percentile(ascending: NDArray[Any], value: float) -> float:
    return 100.0 * float(np.searchsorted(ascending, value)) / max(len(ascending), 1)


def _cosine(left: NDArray[Any], right: NDArray[Any]) -> float:
    product = _length(left) * _length(right)
    return float(left.astype(np.float64) @ right.astype(np.float64)) / product if product > 0 else 0.0


def _finite_length(row: FloatArray) -> float:
    return _length(np.where(np.isfinite(row), row, 0))


def _length(row: NDArray[Any]) -> float:
    """Compute in float64: squares of large float32 values overflow."""
    return float(np.linalg.norm(row.astype(np.float64)))
