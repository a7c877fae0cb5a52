"""Corrects an adapter folder: names of tensors, and a config that fits them.

Invents no value: what the tensors and the base do not prove stays as it is.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.audit.targeting import is_targeted, matches_any
from service.domain.factors import PREFIX, ROWS, is_magnitude, parts_in
from service.domain.facts import AdapterFacts, BaseFacts
from service.repair.change import Change
from service.repair.headers import rename_tensors

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def rename_keys(folder: Path, adapter: AdapterFacts) -> list[Change]:
    """Give tensors the names of the base's modules, if there is exactly one way to do so."""
    place = adapter.attachment
    if not place.bare and not place.meant:
        return []
    meant = {PREFIX + old: PREFIX + new for old, new in place.meant.items()}

    def new_name(key: str) -> str:
        whole = key if key.startswith(PREFIX) else PREFIX + key
        old = next((one for one in meant if whole.startswith(one + ".")), None)
        return meant[old] + whole.removeprefix(old) if old else whole

    rename_tensors(folder / WEIGHTS, new_name)
    changes = [Change(WEIGHTS, "names of tensors", None, PREFIX, "PEFT loads no other")] if place.bare else []
    return changes + [
        Change(WEIGHTS, "tensors of a module", old, new, "the only module of the base whose name and shape fit")
        for old, new in place.meant.items()
    ]


def correct_config(folder: Path, adapter: AdapterFacts, base: BaseFacts) -> list[Change]:
    """Make the config ask for exactly what the file holds."""
    path = folder / CONFIG
    config = json.loads(path.read_text(encoding="utf-8"))
    meant = adapter.attachment.meant
    parts = parts_in(adapter.lora).values()
    modules = sorted({meant.get(one.module, one.module) for one in parts if one.is_factor})
    wanted: dict[str, tuple[Any, str]] = {}
    if modules and adapter.peft_type != "LORA" and not adapter.peft_type.startswith("ADA"):
        wanted["peft_type"] = ("LORA", "the file holds LoRA factors")
    if saved := unlisted_modules(adapter, base):
        reason = "the file holds these modules whole"
        wanted["modules_to_save"] = (sorted({*(config.get("modules_to_save") or ()), *saved}), reason)
    if modules and not all(is_targeted(config, one) for one in modules) and not config.get("target_parameters"):
        wanted["target_modules"] = (modules, "the file holds factors for these modules")
        wanted["exclude_modules"] = (None, "target_modules names every module")
        wanted["layers_to_transform"] = (None, "target_modules names every module")
    if any(is_magnitude(key) for key in adapter.lora) and not config.get("use_dora"):
        wanted["use_dora"] = (True, "the file holds DoRA's magnitudes")
    if config.get("target_parameters") and config.get("lora_dropout"):
        wanted["lora_dropout"] = (0.0, "it acts in training only, and PEFT puts no factors on parameters beside it")
    wanted |= _rank(adapter, config)
    wanted |= _token_rows(adapter, config)
    if isinstance(config.get("auto_mapping"), dict):
        wanted["auto_mapping"] = (None, "it names code of the training machine, which AutoPeftModel refuses")
    changes = [
        Change(CONFIG, key, config.get(key), value, reason)
        for key, (value, reason) in wanted.items()
        if config.get(key) != value
    ]
    if changes:
        path.write_text(
            json.dumps({**config, **{one.what: one.new for one in changes}}, indent=2) + "\n", encoding="utf-8"
        )
    return changes


def _rank(adapter: AdapterFacts, config: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    """Read ranks off the tensors, where both factors of a module agree."""
    ranks: dict[str, set[int]] = {}
    for key, part in parts_in(adapter.lora).items():
        if part.is_factor and len(shape := adapter.lora[key].shape) == 2:
            ranks.setdefault(part.module, set()).add(part.rank_in(shape))
    found = {next(iter(one)) for one in ranks.values() if len(one) == 1}
    is_wrong = bool(found) and not found <= adapter.ranks and not config.get("target_parameters")  # may be stacked
    if is_wrong and len(found) == 1 and not config.get("rank_pattern"):
        return {"r": (found.pop(), "the tensors have this rank")}
    return {}


def _token_rows(adapter: AdapterFacts, config: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    """Name the rows that the file holds and the config does not, if they are as many as the tokens that it added."""
    held = trained_rows(adapter)
    ids = sorted(adapter.new_tokens.values())
    if config.get("trainable_token_indices") or not ids or set(held.values()) != {len(ids)}:
        return {}
    modules = sorted(name.rpartition(".")[2] for name in held)
    return {
        "trainable_token_indices": (
            dict.fromkeys(modules, ids),
            "the file holds as many trained rows as the tokenizer has new tokens",
        )
    }


def trained_rows(adapter: AdapterFacts) -> dict[str, int]:
    """Return how many trained rows the file holds of each module."""
    parts = parts_in(adapter.lora)
    return {part.module: adapter.lora[key].shape[0] for key, part in parts.items() if part.kind == ROWS}


def unlisted_modules(adapter: AdapterFacts, base: BaseFacts) -> set[str]:
    """Name the modules that the file holds whole and the config does not list."""
    if adapter.is_bias_trained:
        return set()
    full = {key for key in adapter.full if not matches_any(key.rpartition(".")[0], adapter.modules_to_save)}
    parameters = base.blueprint.parameters if base.blueprint and base.blueprint.parameters else base.tensors
    return {_highest(key, adapter.full, parameters) for key in full}


def _highest(key: str, held: Mapping[str, Any], parameters: Mapping[str, Any]) -> str:
    """Climb from a tensor to the largest module of which the file holds every parameter."""
    module = key.rpartition(".")[0]
    while True:
        parent = module.rpartition(".")[0]
        inner = [one for one in parameters if one.startswith(parent + ".")] if parent else []
        if not inner or not all(one in held for one in inner):
            return module
        module = parent
