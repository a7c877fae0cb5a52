"""Finds out which rows of a vocabulary matrix an adapter replaces, and how far they turn.

Knows PEFT's key names; does not know which rows should have been trained.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from service.checkpoint.adapter_config import AdapterConfig, trained_ids
from service.checkpoint.vocabulary import Wanted, describe_row, measure_matrix, row_total, turn, twins
from service.checkpoint.weights import FloatArray, WeightFiles
from service.domain.factors import EMBEDDING, ROWS, pair_of, part_of, short_names, told_scale
from service.domain.facts import MatrixFacts, RowFacts, RowSpan, RowUpdate

MAX_SPANS = 64
MIN_TURN = 1e-5
"""Rounding to 16 bits turns a row by less."""
NO_STARTS: Mapping[int, FloatArray] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Served:
    """The base's matrix that an adapter changes.

    Attributes:
        weights: The base's tensors.
        matrix: Facts about the matrix; None if the base has none.
    """

    weights: WeightFiles
    matrix: MatrixFacts | None


def row_update(
    weights: WeightFiles,
    config: AdapterConfig,
    suffixes: tuple[str, ...],
    ids: Iterable[int],
    base: WeightFiles,
    matrix: MatrixFacts | None,
    starts: Mapping[int, FloatArray] = NO_STARTS,
) -> RowUpdate | None:
    """Describe what an adapter does to one matrix; None for nothing.

    Args:
        weights: The adapter's tensors.
        config: The adapter's config.
        suffixes: Endings of the matrix's tensor name, such as `lm_head.weight`.
        ids: Rows that matter.
        base: The base's tensors.
        matrix: The base's matrix, whose old rows are compared.
        starts: Rows that new tokens may begin with, by id, of any length.
    """
    modules = tuple(one.removesuffix(".weight") for one in suffixes)
    served = Served(base, matrix)
    parts: dict[str, str] = {}
    module = ""
    for key, name in short_names(weights.tensors).items():
        if not weights.is_matrix(key):
            continue
        if key.endswith(suffixes):
            return _full_update(weights, key, ids, served)
        if (part := part_of(name)) and part.module.endswith(modules):
            if part.kind == ROWS:
                return _token_update(weights, key, trained_ids(config.trainable_tokens, part.module), served, starts)
            parts[part.name], module = key, part.module
    return _lora_update(weights, parts, sorted(ids), served, config, module)


def _token_update(
    weights: WeightFiles, key: str, ids: tuple[int, ...], served: Served, starts: Mapping[int, FloatArray]
) -> RowUpdate:
    """Match the saved rows with their ids: whole rows, despite the name, in the order of the config.

    Source: peft 0.21.2, tuners/trainable_tokens/layer.py.
    """
    places = dict(zip(ids, range(weights.tensors[key].shape[0]), strict=False))
    new = dict(zip(places, weights.rows(key, list(places.values())), strict=True))
    turns = _turns(new, served)
    spans, num_changed = _spans(list(turns), list(turns.values()), served.matrix.num_rows if served.matrix else 0)
    met = {one: row for one, row in new.items() if one in starts and row.any() and len(row) == len(starts[one])}
    started = tuple(one for one, row in met.items() if turn(starts[one], row) <= MIN_TURN)
    return RowUpdate("trainable_tokens", None, turns, _described(new, served), spans, num_changed, started)


def _full_update(weights: WeightFiles, key: str, ids: Iterable[int], served: Served) -> RowUpdate:
    num_rows = weights.tensors[key].shape[0]
    within = sorted({one for one in ids if 0 <= one < num_rows})
    turns = _turns(dict(zip(within, weights.rows(key, within), strict=True)), served)
    rows = measure_matrix(weights, key, Wanted(within, {})).rows
    spans, num_changed = _compare(weights, key, served)
    return RowUpdate("modules_to_save", num_rows, turns, rows, spans, num_changed)


def _turns(new: Mapping[int, FloatArray], served: Served) -> dict[int, float]:
    """Compare new rows with old ones; a row that the base does not have is new throughout."""
    old = _old_rows(new, served)
    return {one: turn(old[one], row) if one in old else float(row.any()) for one, row in new.items()}


def _old_rows(new: Mapping[int, FloatArray], served: Served) -> dict[int, FloatArray]:
    matrix = served.matrix
    if matrix is None or any(len(row) != matrix.hidden_size for row in new.values()):
        return {}
    within = [one for one in new if 0 <= one < matrix.num_rows]
    return dict(zip(within, served.weights.rows(matrix.tensor, within), strict=True))


def _described(new: Mapping[int, FloatArray], served: Served) -> dict[int, RowFacts]:
    """Describe rows that take the place of some of the base's."""
    matrix = served.matrix
    if matrix is None or any(len(row) != matrix.hidden_size for row in new.values()):
        return {}
    total = row_total(served.weights, matrix.tensor)
    same = twins(served.weights, matrix.tensor, new)
    return {one: replace(describe_row(row, total), twins=same.get(one, ())) for one, row in new.items()}


def _compare(weights: WeightFiles, key: str, served: Served) -> tuple[tuple[RowSpan, ...], int]:
    """Find the rows of a whole matrix that turned, piece by piece."""
    matrix = served.matrix
    if matrix is None or matrix.hidden_size != weights.tensors[key].shape[1]:
        return (), 0
    turned: list[float] = []
    with np.errstate(all="ignore"):
        chunks = zip(served.weights.row_chunks(matrix.tensor), weights.row_chunks(key), strict=False)
        for old, new in chunks:  # of equal length but for the last ones
            old, new = old[: len(new)], new[: len(old)]
            cosines = np.vecdot(old, new) / np.sqrt(np.vecdot(old, old)) / np.sqrt(np.vecdot(new, new))
            is_same = (old == new).all(axis=1)
            turned += np.where(is_same, 0.0, np.clip(np.nan_to_num(1 - cosines, nan=1.0), 0, 2)).tolist()
    return _spans(range(len(turned)), turned, len(turned))


def _spans(ids: Iterable[int], turns: Iterable[float], num_rows: int) -> tuple[tuple[RowSpan, ...], int]:
    """Count the rows that turned, in at most `MAX_SPANS` spans of equal length."""
    changed = [(one, amount) for one, amount in zip(ids, turns, strict=True) if amount > MIN_TURN]
    length = max(1, -(-max(num_rows, *(one + 1 for one, _ in changed), 1) // MAX_SPANS)) if changed else 1
    spans: dict[int, RowSpan] = {}
    for one, amount in changed:
        start = one // length * length
        known = spans.get(start, RowSpan(start, start + length, 0, 0.0))
        spans[start] = replace(known, num_changed=known.num_changed + 1, max_turn=max(known.max_turn, amount))
    return tuple(spans[start] for start in sorted(spans)), len(changed)


def _lora_update(
    weights: WeightFiles, parts: dict[str, str], ids: list[int], served: Served, config: AdapterConfig, module: str
) -> RowUpdate | None:
    """Say which rows low-rank factors touch: columns of `lora_embedding_A` `(rank, rows)`, rows of `lora_B`.

    On embeddings PEFT starts A at zero and B at random, on linear layers the other way round.
    """
    if factors := pair_of(parts, EMBEDDING):
        by_row, other = (weights.values(one).T for one in factors)
    elif factors := pair_of(parts):
        other, by_row = (weights.values(one) for one in factors)
    else:
        return None
    is_other_zero = not other.any()
    turns = {one: 0.0 if is_other_zero else float(by_row[one].any()) for one in ids if 0 <= one < len(by_row)}
    touched = np.flatnonzero(by_row.any(axis=1)) if not is_other_zero else np.empty(0, dtype=np.intp)
    spans, num_changed = _spans(touched.tolist(), [1.0] * len(touched), len(by_row))
    rows: dict[int, RowFacts] = {}
    scale = None if config.document.get("use_dora") else told_scale(config.document, module, len(other))
    if scale is not None and by_row.shape[1] == other.shape[0]:
        old = _old_rows(
            {one: np.empty(other.shape[1], dtype=np.float32) for one, turned in turns.items() if turned}, served
        )
        new = {one: (row + scale * (by_row[one] @ other)).astype(np.float32) for one, row in old.items()}
        rows = _described(new, served)
    return RowUpdate("lora", None, turns, rows, spans, num_changed)
