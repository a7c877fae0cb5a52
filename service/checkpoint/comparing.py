"""Compares a tuned folder with the one that it was made from, tensor by tensor and in bounded memory.

Does not know which differences are right.
"""

import math
from collections.abc import Collection

import numpy as np

from service.checkpoint.renaming import renaming
from service.checkpoint.vocabulary import turn
from service.checkpoint.weights import FloatArray, WeightFiles
from service.domain.facts import BaseFacts, MatrixFacts, OriginFacts, TensorChange

MIN_SHARED = 0.5
"""Below this share of equal names, the layout was renamed as a whole."""


def compare(tuned: BaseFacts, weights: WeightFiles, origin: BaseFacts, old: WeightFiles) -> OriginFacts:
    """Describe what tuning changed.

    Args:
        tuned: Facts of the tuned folder.
        weights: Its tensors.
        origin: Facts of the folder that it was made from.
        old: The origin's tensors.
    """
    names = match_names(weights, old)
    changed: dict[str, TensorChange] = {}
    reshaped = {}
    for name, before in names.items():
        shapes = old.tensors[before].shape, weights.tensors[name].shape
        if shapes[0] != shapes[1]:
            reshaped[name] = shapes
        if weights.is_float(name) and old.is_float(before) and (change := tensor_change(weights, name, old, before)):
            changed[name] = change
    return OriginFacts(
        base=origin,
        num_equal=len(names) - len(changed.keys() | reshaped.keys()),
        changed=changed,
        missing=tuple(sorted(old.tensors.keys() - set(names.values()))),
        extra=tuple(sorted(weights.tensors.keys() - names.keys())),
        reshaped=reshaped,
        embedding_turns=_turns(tuned.embedding, weights, origin.embedding, old),
        head_turns=_turns(tuned.head, weights, origin.head, old),
    )


def match_names(weights: WeightFiles, old: WeightFiles) -> dict[str, str]:
    """Map the tensors of a folder to those of its origin: by name, or by a renaming of the whole layout."""
    shared = {name: name for name in weights.tensors if name in old.tensors}
    if len(shared) >= MIN_SHARED * len(weights.tensors):
        return shared
    shapes = {name: one.shape for name, one in weights.tensors.items()}
    return renaming(shapes, {name: one.shape for name, one in old.tensors.items()}) or shared


def tensor_change(weights: WeightFiles, name: str, old: WeightFiles, before: str) -> TensorChange | None:
    """Compare two tensors as far as both reach; None if they are equal once both have the narrower type."""
    if weights.is_same(name, old, before):
        return None
    kinds = {weights.tensors[name].dtype, old.tensors[before].dtype}
    product = old_square = new_square = square = 0.0
    for new_piece, old_piece in zip(weights.chunks(name), old.chunks(before), strict=False):
        size = min(new_piece.size, old_piece.size)
        new, former = new_piece[:size], old_piece[:size]
        for kind in kinds if len(kinds) > 1 else ():
            new, former = rounded(new, kind), rounded(former, kind)
        wide, wide_old = new.astype(np.float64), former.astype(np.float64)
        product += float(wide @ wide_old)
        old_square += float(wide_old @ wide_old)
        new_square += float(wide @ wide)
        square += float((wide - wide_old) @ (wide - wide_old))
    if square == 0:
        return None
    cosine = product / math.sqrt(old_square * new_square) if old_square and new_square else 0.0
    relative = math.sqrt(square / old_square) if old_square else math.inf
    return TensorChange(relative if math.isfinite(relative) else 1e9, 1 - cosine if math.isfinite(cosine) else 1.0)


def rounded(values: FloatArray, dtype: str) -> FloatArray:
    """Round float32 values to what a stored type can hold; half to even, as torch does."""
    if dtype == "F16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16).astype(np.float32)
    if dtype == "BF16":
        bits = np.ascontiguousarray(values).view(np.uint32)
        up = ((bits >> np.uint32(16)) & np.uint32(1)) + np.uint32(0x7FFF)
        return ((bits + up) & np.uint32(0xFFFF0000)).view(np.float32)
    return values


def _turns(
    matrix: MatrixFacts | None, weights: WeightFiles, former: MatrixFacts | None, old: WeightFiles
) -> dict[int, float]:
    if matrix is None or former is None or matrix.hidden_size != former.hidden_size:
        return {}
    ids = _common(matrix.rows, former)
    rows = zip(ids, weights.rows(matrix.tensor, ids), old.rows(former.tensor, ids), strict=True)
    return {one: turn(before, after) for one, after, before in rows}


def _common(ids: Collection[int], former: MatrixFacts) -> list[int]:
    return sorted(one for one in ids if one < former.num_rows)
