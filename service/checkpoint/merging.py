"""Compares a folder that claims to hold a merged adapter with the origin plus that adapter.

Computes in float32, block by block. Does not know how large a difference is acceptable.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from service.checkpoint.adapter import BaseReading, read_adapter
from service.checkpoint.adapter_config import CONFIG, read_config
from service.checkpoint.comparing import Comparison, shapes
from service.checkpoint.deltas import Update, Updates, read_updates
from service.checkpoint.documents import Documents
from service.checkpoint.grids import rounded_bits
from service.checkpoint.locating import Location
from service.checkpoint.pairing import pair_names
from service.checkpoint.vocabulary import HEAD_SUFFIXES
from service.checkpoint.weights import FloatArray, WeightFiles
from service.domain.facts import MergeFacts, TensorMerge

WEIGHTS = "adapter_model.safetensors"
BLOCK_VALUES = 1_000_000
MOST_ROUNDINGS = 9.0
"""A tensor that the adapter leaves as it is may be rounded anew, more than once; lengths are squared."""
MIN_CHANGE = 0.003
"""Of a tensor's length: storing in 16 bits changes less."""
SAMPLED_VALUES = 500_000
EMPTY = TensorMerge(0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where one updated tensor is: in the origin (None if it has none of the kind), and in the folder."""

    old: str | None
    new: str


def merge_facts(adapter: Location, origin: BaseReading, merged: BaseReading, comparison: Comparison) -> MergeFacts:
    """Measure how much of an adapter is in a folder.

    Args:
        adapter: The adapter's folder.
        origin: What it was merged into.
        merged: What is said to be the result.
        comparison: The tensors of both, compared.
    """
    documents = Documents(adapter.folder)
    weights = WeightFiles([adapter.folder / WEIGHTS] if documents.has(WEIGHTS) else [])
    updates = read_updates(weights, documents.json(CONFIG), read_config(documents).trainable_tokens)
    names = _names_in_origin(updates, weights, origin)
    targets: dict[str, TensorMerge] = {}
    missing, reshaped, touched = [], {}, set(_named(updates.uncomputed, origin))
    for name, update in updates.by_name.items():
        place = _place(names.get(name), origin, merged, comparison)
        if place is None:
            if name in names:
                missing.append(names[name])
            continue
        touched.add(place.new)
        wanted = _shape_of(update, weights, origin.weights, place.old)
        stored = merged.weights.tensors[place.new].shape
        least = _num_rows_needed(update, wanted, origin, merged, place)
        if wanted is None or not (_is_comparable(wanted, stored, least) and _fits(update, weights, stored, least)):
            reshaped[place.new] = (wanted or (), stored)
        elif merged.weights.is_float(place.new):
            known = targets.get(place.new)
            targets[place.new] = known or _measure(update, weights, origin.weights, merged.weights, place)
    foreign = _foreign(comparison, touched)
    rounded_ones = _rounded(origin.weights, merged.weights, comparison, foreign)
    return MergeFacts(
        adapter=read_adapter(adapter.name, adapter, origin),
        targets={name: one for name, one in targets.items() if one is not EMPTY},
        unmatched=tuple(sorted(updates.by_name.keys() - names.keys())),
        uncomputed=updates.uncomputed,
        foreign={name: one for name, one in foreign.items() if name not in rounded_ones},
        missing=tuple(sorted(missing)),
        reshaped=reshaped,
        rounded=rounded_ones,
    )


def _names_in_origin(updates: Updates, weights: WeightFiles, origin: BaseReading) -> dict[str, str]:
    """Find the origin's name of every updated tensor: its own, or behind another prefix, or its tied twin's."""
    wanted: dict[str, tuple[int, ...]] = {}
    for name, update in updates.by_name.items():
        shape = _shape_of(update, weights, origin.weights, name if name in origin.weights.tensors else None)
        if shape:
            wanted[name] = shape
    pairs = pair_names(wanted, shapes(origin.weights))
    for name in wanted.keys() - pairs.keys():
        if name.endswith(HEAD_SUFFIXES) and origin.facts.embedding and origin.facts.head is None:
            pairs[name] = name  # a tied origin has the module and no tensor
    for name in updates.by_name.keys() - wanted.keys():
        if name in origin.weights.tensors:
            pairs[name] = name
    return pairs


def _named(uncomputed: Mapping[str, str], origin: BaseReading) -> Iterator[str]:
    """Name the tensors of modules whose update is not computed, so that they do not count as foreign."""
    for module in uncomputed:
        parts = module.split(".")
        for count in range(len(parts), 0, -1):
            stem = ".".join(parts[:count])
            found = [name for name in origin.weights.tensors if name.startswith(f"{stem}.")]
            if found and count > 1:
                yield from found
                break


def _place(name: str | None, origin: BaseReading, merged: BaseReading, comparison: Comparison) -> _Place | None:
    if name is None:
        return None
    if name in comparison.pairs:
        return _Place(name, comparison.pairs[name])
    if name.endswith(HEAD_SUFFIXES) and origin.facts.embedding and origin.facts.head is None:
        twin = merged.facts.head or merged.facts.embedding
        return _Place(origin.facts.embedding.tensor, twin.tensor) if twin else None
    if name not in origin.weights.tensors and name in merged.weights.tensors:
        return _Place(None, name)
    return None


def _shape_of(update: Update, weights: WeightFiles, origin: WeightFiles, name: str | None) -> tuple[int, ...] | None:
    """Return the shape of the result."""
    if update.base:
        return weights.tensors[update.base].shape
    if update.replaced and not update.rows:
        return weights.tensors[update.replaced].shape
    if name is not None:
        return origin.tensors[name].shape
    if update.low_rank:
        left, right = update.low_rank
        return (left.shape[0], right.shape[1]) if right.size > 1 else (left.shape[0],)
    return None


def _num_rows_needed(
    update: Update, wanted: tuple[int, ...] | None, origin: BaseReading, merged: BaseReading, place: _Place
) -> int | None:
    """Return how many rows of a vocabulary matrix have a token or an update; None for tensors that keep all theirs."""
    is_vocabulary = place.new in {one.tensor for one in (merged.facts.embedding, merged.facts.head) if one}
    if not (is_vocabulary and merged.facts.tokenizer and wanted and place.old):
        return None
    if wanted[0] > origin.weights.tensors[place.old].shape[0]:
        return None  # the adapter brings rows of its own
    return max(merged.facts.tokenizer.max_id, *update.rows, -1) + 1


def _is_comparable(wanted: tuple[int, ...], stored: tuple[int, ...], num_needed: int | None) -> bool:
    """Say whether shapes are equal, or those of matrices whose last rows, which no token has, were padded or cut."""
    is_longer = len(wanted) == len(stored) == 2 and wanted[1] == stored[1] and wanted[0] <= stored[0]
    is_cut = num_needed is not None and wanted[1:] == stored[1:] and num_needed <= stored[0]
    return wanted == stored or is_longer or is_cut


def _fits(update: Update, weights: WeightFiles, stored: tuple[int, ...], num_needed: int | None) -> bool:
    """Say whether the parts of an update have the sizes that the stored tensor asks of them.

    Args:
        update: What the adapter does.
        weights: The adapter's tensors.
        stored: Shape of the tensor in the folder.
        num_needed: Rows of a vocabulary matrix that it must have; None for other tensors.
    """
    num_rows, width = (stored[0], math.prod(stored[1:])) if stored else (1, 1)
    if update.rows and update.replaced:
        return weights.tensors[update.replaced].shape[1:] == stored[1:]
    if update.low_rank is None:
        return True
    left, right = update.low_rank
    is_matrix = right.shape[1] == width and (num_needed is not None or left.shape[0] <= num_rows)
    return is_matrix and (update.magnitude is None or len(update.magnitude) == len(left))


def _measure(
    update: Update, weights: WeightFiles, origin: WeightFiles, merged: WeightFiles, place: _Place
) -> TensorMerge:
    """Sum over blocks of rows: origin, update, change, and what is left."""
    own = _Reader(weights, update.base) if update.base else _Reader(origin, place.old) if place.old else None
    result = _Reader(merged, place.new)
    wanted = _shape_of(update, weights, origin, place.old) or result.shape
    num_rows = min(wanted[0] if wanted else 1, result.num_rows)
    dtype = merged.tensors[place.new].dtype
    total = np.zeros(6)
    is_finite = True
    step = max(1, BLOCK_VALUES // max(result.width, 1))
    for start in range(0, num_rows, step):
        stop = min(start + step, num_rows)
        before = own.rows(start, min(stop, own.num_rows)) if own and start < own.num_rows else None
        old = _padded(before, stop - start, result.width)
        delta = _target_rows(update, weights, old, start, stop) - old
        with np.errstate(invalid="ignore", over="ignore"):
            change = result.rows(start, stop) - old
        is_finite = is_finite and bool(np.isfinite(change).all())
        old, delta, change = (np.nan_to_num(one, nan=0.0, posinf=0.0, neginf=0.0) for one in (old, delta, change))
        rounding = rounded(old + delta, dtype) - (old + delta)
        squares = [_square(one) for one in (old, delta, change, change - delta, rounding)]
        total += [*squares, float(np.vdot(change, delta))]
    found = _as_merge(total, is_finite=is_finite)
    is_plain = update.low_rank is not None and update.magnitude is None and not update.base
    if found is EMPTY or place.old is None or not is_plain or total[3] < MIN_CHANGE**2 * total[0]:
        return found
    return _with_bits(found, update, weights, origin, merged, place)


def _with_bits(
    found: TensorMerge,
    update: Update,
    weights: WeightFiles,
    origin: WeightFiles,
    merged: WeightFiles,
    place: _Place,
) -> TensorMerge:
    """Look whether it was merged into a rounded base, or rounded after merging, in some of the rows."""
    if place.old is None or origin.tensors[place.old].shape != merged.tensors[place.new].shape:
        return found
    olds, deltas, news = [], [], []
    for start, stop, old, new in _sampled(origin, place.old, merged, place.new):
        olds.append(old)
        news.append(new)
        deltas.append(_target_rows(update, weights, old, start, stop) - old)
    old, delta, new = np.concatenate(olds), np.concatenate(deltas), np.concatenate(news)
    base_bits = rounded_bits(old, new - delta, new)
    return replace(found, base_bits=base_bits, stored_bits=0 if base_bits else rounded_bits(old + delta, new, new))


def _sampled(
    origin: WeightFiles, old: str, merged: WeightFiles, new: str
) -> Iterator[tuple[int, int, FloatArray, FloatArray]]:
    """Read stretches of rows that stand for a whole matrix: first and last row, and the values in both."""
    before, after = _Reader(origin, old), _Reader(merged, new)
    count = max(1, min(before.num_rows, SAMPLED_VALUES // max(before.width, 1)))
    stretch = max(1, count // 8)
    for start in sorted({round(one * (before.num_rows - stretch) / 7) for one in range(8)}):
        stop = min(start + stretch, before.num_rows)
        yield start, stop, before.rows(start, stop), after.rows(start, stop)


def _rounded(
    origin: WeightFiles, merged: WeightFiles, comparison: Comparison, foreign: Mapping[str, float]
) -> dict[str, int]:
    """Find tensors that differ from the origin's by rounding to a few bits alone."""
    found = {}
    for old, new in comparison.pairs.items():
        shape = origin.tensors[old].shape
        is_matrix = len(shape) == 2 and shape == merged.tensors[new].shape and origin.is_float(old)
        if new not in foreign or not is_matrix or not merged.is_float(new):
            continue
        pieces = list(_sampled(origin, old, merged, new))
        before, after = (np.concatenate([one[place] for one in pieces]) for place in (2, 3))
        if bits := rounded_bits(before, after, after):
            found[new] = bits
    return found


def _as_merge(total: "np.ndarray[tuple[int], np.dtype[np.float64]]", *, is_finite: bool) -> TensorMerge:
    old, delta, change, rest, rounding, product = (float(one) for one in total)
    if delta == 0:
        return (
            EMPTY
            if change <= MOST_ROUNDINGS * rounding
            else replace(EMPTY, measured=math.sqrt(change / old) if old else 1.0)
        )
    scale = math.sqrt(old) or 1.0
    return TensorMerge(
        expected=math.sqrt(delta) / scale,
        measured=math.sqrt(change) / scale,
        residual=math.sqrt(rest / delta),
        rounding=math.sqrt(rounding / delta),
        share=product / delta,
        is_finite=is_finite,
    )


def _target_rows(update: Update, weights: WeightFiles, old: FloatArray, start: int, stop: int) -> FloatArray:
    """Return what rows `start` to `stop` are to become, as a matrix."""
    if update.rows:
        new = old.copy()
        inside = {one: place for one, place in update.rows.items() if start <= one < stop}
        if inside and update.replaced:
            new[[one - start for one in inside]] = weights.rows(update.replaced, list(inside.values()))
        return new
    if update.replaced:
        return _Reader(weights, update.replaced).rows(start, stop)
    if update.low_rank is None:
        return old
    left, right = update.low_rank
    whole: FloatArray = old + left[start:stop] @ right
    if update.magnitude is not None:
        lengths = np.sqrt(np.einsum("ij,ij->i", whole, whole))
        whole *= (update.magnitude[start:stop] / np.where(lengths, lengths, np.float32(1)))[:, None]
    return whole


class _Reader:
    """Reads a tensor of any shape as a matrix, `(first dimension, all others)`, some rows at a time."""

    def __init__(self, weights: WeightFiles, name: str) -> None:
        self._weights, self._name = weights, name
        self.shape = weights.tensors[name].shape
        self.num_rows = self.shape[0] if self.shape else 1
        self.width = math.prod(self.shape[1:])

    def rows(self, start: int, stop: int) -> FloatArray:
        pieces = list(self._weights.float_pieces(self._name, start * self.width, stop * self.width))
        flat: FloatArray = np.concatenate(pieces) if pieces else np.empty(0, dtype=np.float32)
        return flat.reshape(stop - start, self.width)


def _padded(rows: FloatArray | None, count: int, width: int) -> FloatArray:
    """Fill rows that the origin does not have with zeros."""
    if rows is not None and len(rows) == count:
        return rows
    whole: FloatArray = np.zeros((count, width), dtype=np.float32)
    if rows is not None:
        whole[: len(rows)] = rows
    return whole


def rounded(values: FloatArray, dtype: str) -> FloatArray:
    """Round to a stored type and back, to the nearest even."""
    if dtype == "BF16":
        bits = values.astype(np.float32).view(np.uint32)
        bits = bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))
        return (bits & np.uint32(0xFFFF0000)).view(np.float32)
    if dtype == "F16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16).astype(np.float32)
    return values


def _square(values: FloatArray) -> float:
    return float(np.vdot(values, values))


def _foreign(comparison: Comparison, touched: set[str]) -> dict[str, float]:
    return {
        new: one.relative
        for old, new in comparison.pairs.items()
        if (one := comparison.changed.get(old)) and new not in touched and not one.is_rounding
    }
