"""Computes what merging an adapter must have written, and compares it with what a folder holds.

Reads in blocks of rows; builds no model. Knows no limit of what is good enough.
"""

import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from service.checkpoint.comparing import match_names, rounded
from service.checkpoint.weights import FloatArray, WeightFiles
from service.domain.facts import AdapterFacts, MergeFacts, OriginFacts, TensorMerge

PREFIX = "base_model.model."
FACTOR = re.compile(
    r"^(?P<module>.+)\.lora_(?P<part>A|B|embedding_A|embedding_B|magnitude_vector)(\.[^.]+)?(\.weight)?$"
)
TOKEN_DELTA = re.compile(r"^(?P<module>.+?)(\.token_adapter)?\.trainable_tokens_delta$")
COPY_PART = ".base_layer."
COMPUTED_TYPES = ("LORA", "TRAINABLE_TOKENS", "")

Expected = Callable[[int, FloatArray], FloatArray]
"""First row and the origin's rows `(rows, hidden)` -> the rows that merging must write."""


@dataclass
class _Plan:
    """What is known about one adapter's tensors."""

    factors: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    saved: dict[str, str] = field(default_factory=dict)
    rows: dict[str, str] = field(default_factory=dict)


def measure_merge(
    weights: WeightFiles, old: WeightFiles, adapter: AdapterFacts, tensors: WeightFiles, origin: OriginFacts
) -> MergeFacts:
    """Compare a merged folder with origin and adapter.

    Args:
        weights: The merged folder's tensors.
        old: The origin's.
        adapter: The adapter's facts.
        tensors: The adapter's tensors.
        origin: What differs between folder and origin.
    """
    if adapter.peft_type not in COMPUTED_TYPES:
        return MergeFacts(adapter, {}, (), {"every module": f"{adapter.peft_type} is not computed here"}, {})
    config = adapter.documents.get("adapter_config.json", {})
    plan = _plan(tensors)
    names = {before: name for name, before in match_names(weights, old).items()}
    targets: dict[str, TensorMerge] = {}
    unmatched, uncomputed = [], {}
    touched: set[str] = set()
    for module in sorted({*plan.factors, *plan.saved, *plan.rows}):
        before = next((one for one in (f"{module}.weight", module) if one in old.tensors), None)
        if before is None or before not in names:
            unmatched.append(module)
            continue
        touched.add(names[before])
        expected = _expected(module, plan, tensors, config, adapter)
        if expected is None or not old.is_matrix(before):
            if module in plan.saved and old.is_float(before):
                targets[names[before]] = _vector_merge(weights, names[before], old, before, tensors, plan.saved[module])
            else:
                uncomputed[module] = f"{adapter.peft_type} on a tensor of shape {list(old.tensors[before].shape)}"
            continue
        if weights.tensors[names[before]].shape[1:] != old.tensors[before].shape[1:]:
            uncomputed[module] = "the folder's tensor has another shape"
            continue
        targets[names[before]] = _compare(weights, names[before], old, before, expected)
    is_bias = adapter.is_bias_trained
    foreign = {
        name: change.relative
        for name, change in origin.changed.items()
        if name not in touched and not (is_bias and name.endswith(".bias"))
    }
    return MergeFacts(adapter, targets, tuple(unmatched), uncomputed, foreign)


def _plan(tensors: WeightFiles) -> _Plan:
    plan = _Plan()
    for key in tensors.tensors:
        short = key.removeprefix(PREFIX)
        if COPY_PART in short or not tensors.is_float(key):
            continue
        if match := FACTOR.match(short):
            plan.factors[match["module"]][match["part"]] = key
        elif match := TOKEN_DELTA.match(short):
            plan.rows[match["module"]] = key
        elif ".lora_" in short:
            plan.factors[short.partition(".lora_")[0]]["other"] = key
        else:
            plan.saved[short.removesuffix(".weight")] = key
    return plan


def _expected(
    module: str, plan: _Plan, tensors: WeightFiles, config: Mapping[str, Any], adapter: AdapterFacts
) -> Expected | None:
    if key := plan.saved.get(module):
        return _replaced(tensors, key) if tensors.is_matrix(key) else None
    factors = plan.factors.get(module, {})
    steps: list[Expected] = []
    if factors:
        step = _factored(module, factors, tensors, config)
        if step is None:
            return None
        steps.append(step)
    if key := plan.rows.get(module):
        ids = next((ids for name, ids in adapter.trainable_tokens.items() if name == "*" or module.endswith(name)), ())
        ids = ids or next(iter(adapter.trainable_tokens.values()), ())
        steps.append(_rows_replaced(tensors.values(key), ids))

    def apply(start: int, rows: FloatArray) -> FloatArray:
        for one in steps:
            rows = one(start, rows)
        return rows

    return apply if steps else None


def _replaced(tensors: WeightFiles, key: str) -> Expected:
    def apply(start: int, rows: FloatArray) -> FloatArray:
        last = min(start + len(rows), tensors.tensors[key].shape[0])
        return tensors.rows(key, list(range(start, last)))

    return apply


def _rows_replaced(new: FloatArray, ids: tuple[int, ...]) -> Expected:
    def apply(start: int, rows: FloatArray) -> FloatArray:
        changed = rows.copy()
        for token_id, row in zip(ids, new, strict=False):
            if start <= token_id < start + len(rows):
                changed[token_id - start] = row
        return changed

    return apply


def _factored(
    module: str, factors: Mapping[str, str], tensors: WeightFiles, config: Mapping[str, Any]
) -> Expected | None:
    if {"embedding_A", "embedding_B"} <= factors.keys():
        by_row, other = tensors.values(factors["embedding_A"]).T, tensors.values(factors["embedding_B"]).T
    elif {"A", "B"} <= factors.keys() and all(len(tensors.tensors[factors[one]].shape) == 2 for one in "AB"):
        by_row, other = tensors.values(factors["B"]), tensors.values(factors["A"])
        if config.get("fan_in_fan_out"):
            by_row, other = other.T, by_row.T
    else:
        return None
    scale = _scale(module, other.shape[0], config)
    magnitude = tensors.values(factors["magnitude_vector"]).reshape(-1) if "magnitude_vector" in factors else None
    if magnitude is not None and "embedding_A" in factors:
        return None

    def apply(start: int, rows: FloatArray) -> FloatArray:
        moved = rows + np.float32(scale) * (by_row[start : start + len(rows)] @ other)
        if magnitude is None:
            return moved
        norms = np.linalg.norm(moved, axis=1)
        share: FloatArray = magnitude[start : start + len(rows)] / norms
        return share[:, None] * moved

    return apply


def _scale(module: str, rank: int, config: Mapping[str, Any]) -> float:
    """Return what PEFT multiplies the product of the factors by; patterns match ends of module names."""
    alpha = _of_pattern(config.get("alpha_pattern"), module, config.get("lora_alpha"))
    alpha = alpha if isinstance(alpha, int | float) else 8
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _of_pattern(patterns: Any, module: str, default: Any) -> Any:
    """Source: peft 0.21.2, `get_pattern_key`."""
    for pattern, value in (patterns if isinstance(patterns, dict) else {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


@dataclass
class _Sums:
    """Squares and products over all blocks of a tensor."""

    old: float = 0.0
    update: float = 0.0
    measured: float = 0.0
    residual: float = 0.0
    rounding: float = 0.0
    product: float = 0.0

    def add(self, before: FloatArray, after: FloatArray, expected: FloatArray, dtype: str) -> None:
        update, measured = expected - before, after - before
        self.old += _square(before)
        self.update += _square(update)
        self.measured += _square(measured)
        self.residual += _square(after - expected)
        self.rounding += _square(rounded(expected, dtype) - expected)
        self.product += float(update.ravel().astype(np.float64) @ measured.ravel().astype(np.float64))

    def facts(self) -> TensorMerge:
        old, update = math.sqrt(self.old) or 1.0, math.sqrt(self.update)
        if update == 0:
            return TensorMerge(0.0, math.sqrt(self.measured) / old, 0.0 if self.measured == 0 else 1.0, 0.0, 1.0)
        return TensorMerge(
            expected=update / old,
            measured=math.sqrt(self.measured) / old,
            residual=math.sqrt(self.residual) / update,
            rounding=math.sqrt(self.rounding) / update,
            ratio=self.product / self.update,
        )


def _compare(weights: WeightFiles, name: str, old: WeightFiles, before: str, expected: Expected) -> TensorMerge:
    sums, start = _Sums(), 0
    for after, former in zip(weights.row_chunks(name), old.row_chunks(before), strict=False):
        count = min(len(after), len(former))
        wanted = expected(start, former[:count])
        count = min(count, len(wanted))
        sums.add(former[:count], after[:count], wanted[:count], weights.tensors[name].dtype)
        start += len(former)
    return sums.facts()


def _vector_merge(
    weights: WeightFiles, name: str, old: WeightFiles, before: str, tensors: WeightFiles, key: str
) -> TensorMerge:
    sums = _Sums()
    parts = zip(weights.chunks(name), old.chunks(before), tensors.chunks(key), strict=False)
    for after, former, wanted in parts:
        count = min(after.size, former.size, wanted.size)
        sums.add(former[:count], after[:count], wanted[:count], weights.tensors[name].dtype)
    return sums.facts()


def _square(values: FloatArray) -> float:
    flat = values.ravel().astype(np.float64)
    return float(flat @ flat)
