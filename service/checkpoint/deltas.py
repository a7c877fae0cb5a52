"""Says what a PEFT adapter does to each tensor of its base, in PEFT's own arithmetic.

Does not know what became of the tensors. What is not computed here is named, with the reason, instead of guessed.
Source: peft 0.21.2, tuners/lora/layer.py, tuners/lora/dora.py, tuners/trainable_tokens.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.checkpoint.adapter_config import trained_ids
from service.checkpoint.weights import FloatArray, WeightFiles
from service.domain import factors

SAVED = re.compile(r"\.(modules_to_save|original_module)(\.(?!weight$|bias$)[^.]+(?=\.))?")
OTHER_LORA = {
    "alora_invocation_tokens": "it acts after certain tokens only, and cannot be merged",
    "arrow_config": "it is routed between several adapters",
    "kasa_config": "it is of the variant KaSA",
    "monteclora_config": "it is of the variant MonteCLoRA",
    "velora_config": "it is of the variant VeLoRA",
    "layer_replication": "it repeats layers of the base",
    "use_bdlora": "it is block-diagonal",
    "use_qalora": "it is of the variant QALoRA",
}
"""Settings under which the factors mean something else."""
CHANGED_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Initialisations that take the factors' first values out of the base's own weights."""


@dataclass(frozen=True, slots=True)
class Update:
    """What an adapter does to one tensor.

    Attributes:
        shape: Of the result; None if that of the base.
        low_rank: Left and right factor, `(out, rank)` and `(rank, in)`, scaled, of the weight as a matrix.
        magnitude: DoRA's length of every row of the result.
        replaced: Key of the tensor in the adapter's file that takes the whole place.
        rows: Id of every row that is replaced, with the place in `replaced`.
        base: Key of the adapter's own copy of the base tensor.
    """

    low_rank: tuple[FloatArray, FloatArray] | None = None
    magnitude: FloatArray | None = None
    replaced: str | None = None
    rows: Mapping[int, int] = field(default_factory=dict)
    base: str | None = None


@dataclass(frozen=True, slots=True)
class Updates:
    """Everything that an adapter does.

    Attributes:
        by_name: Updates by tensor name, as the adapter's modules are called.
        uncomputed: Modules of which the update is not computed, with the reason.
    """

    by_name: Mapping[str, Update]
    uncomputed: Mapping[str, str]


def read_updates(weights: WeightFiles, config: Mapping[str, Any], tokens: Mapping[str, tuple[int, ...]]) -> Updates:
    """Read an adapter's updates.

    Args:
        weights: The adapter's tensors.
        config: `adapter_config.json`.
        tokens: Ids of `trainable_token_indices`, by module.
    """
    names = factors.short_names(weights.tensors)
    updates = {
        SAVED.sub("", name): Update(replaced=key)
        for key, name in names.items()
        if factors.part_of(name) is None and ".original_module." not in name
    }
    reason = _unknown_kind(config)
    uncomputed = {}
    for module, keys in factors.by_module(names).items():
        if bias := keys.pop(f"{factors.COPY}.bias", None):  # trained with the adapter, where `bias` says so
            updates[f"{module}.bias"] = Update(replaced=bias)
        other = reason or _by_parameter(module, keys, weights, config)
        if other and keys.keys() - {factors.COPY, factors.ROWS}:
            uncomputed[module] = other
            continue
        try:
            updates |= _module_updates(module, keys, weights, config, tokens)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            uncomputed[module] = f"its tensors do not fit together: {error}"
    return Updates(updates, uncomputed)


def _by_parameter(module: str, keys: Mapping[str, str], weights: WeightFiles, config: Mapping[str, Any]) -> str | None:
    """Say why factors on a parameter that `target_parameters` names are none on a module's weight; None if they are."""
    targets = config.get("target_parameters")
    named = [str(one).rpartition(".") for one in targets] if isinstance(targets, list) else []
    leaves = {leaf for stem, _, leaf in named if f".{factors.owner_of(module)}".endswith(f".{stem}")}
    if not leaves:
        return None
    if leaves != {"weight"} or module != factors.owner_of(module):
        return "it changes parameters other than the weight"
    if config.get("rank_pattern") or config.get("alpha_pattern"):
        return "it changes parameters with ranks or scales of their own"
    factor = keys.get("lora_A")
    is_stacked = factor is not None and weights.tensors[factor].shape[0] != config.get("r")
    return "it changes stacked experts" if is_stacked else None


def _unknown_kind(config: Mapping[str, Any]) -> str | None:
    peft_type = config.get("peft_type")
    if peft_type not in ("LORA", "TRAINABLE_TOKENS", None):
        return f"the adapter is of type {peft_type}"
    if other := next((why for name, why in OTHER_LORA.items() if config.get(name)), None):
        return other
    first = config.get("init_lora_weights")
    if isinstance(first, str) and first.lower().startswith(CHANGED_BASE):
        return f"it began with {first}, which also changes the base's weights"
    return None


def _module_updates(
    module: str,
    keys: Mapping[str, str],
    weights: WeightFiles,
    config: Mapping[str, Any],
    tokens: Mapping[str, tuple[int, ...]],
) -> dict[str, Update]:
    name, copy = f"{module}.weight", keys.get(factors.COPY)
    if key := keys.get(factors.ROWS):
        places = dict(zip(trained_ids(tokens, module), range(weights.tensors[key].shape[0]), strict=False))
        return {name: Update(replaced=key, rows=places, base=copy)}
    if pair := factors.pair_of(keys, factors.EMBEDDING):
        if factors.MAGNITUDES in keys:
            raise ValueError("DoRA on embeddings is not computed here")
        a, b = (weights.values(one) for one in pair)
        return {name: Update(low_rank=(_scaled(a.T, config, module, len(a)), b.T), base=copy)}
    if not (pair := factors.pair_of(keys)):
        return {}
    a, b = (weights.values(one) for one in pair)
    if b.ndim > 2 and math.prod(b.shape[2:]) != 1:
        raise ValueError("factors of a convolution are only computed if the second is 1 x 1")
    left, right = _scaled(b.reshape(b.shape[0], -1), config, module, len(a)), a.reshape(len(a), -1)
    if left.shape[1] != right.shape[0]:
        raise ValueError(f"ranks {left.shape[1]} and {right.shape[0]} differ")
    if config.get("fan_in_fan_out"):
        left, right = right.T.copy(), left.T.copy()
    found = {name: Update(low_rank=(left, right), base=copy)}
    if magnitude := keys.get(factors.MAGNITUDES):
        if config.get("fan_in_fan_out") or a.ndim > 2:
            raise ValueError("DoRA is only computed for linear layers")
        found[name] = Update(low_rank=(left, right), magnitude=weights.values(magnitude).reshape(-1), base=copy)
    if bias := keys.get("lora_B.bias"):
        values = _scaled(weights.values(bias).reshape(-1, 1), config, module, len(a))
        found[f"{module}.bias"] = Update(low_rank=(values, np.ones((1, 1), dtype=np.float32)))
    return found


def _scaled(factor: NDArray[np.float32], config: Mapping[str, Any], module: str, rank: int) -> FloatArray:
    return np.ascontiguousarray(factor * np.float32(factors.scale_of(config, module, rank)))
