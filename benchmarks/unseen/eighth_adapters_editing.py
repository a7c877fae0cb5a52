"""Edits that several parts of this wave share."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks.unseen.case import Bundle
from benchmarks.unseen.fourth_editing import ADAPTER_CONFIG, merging
from benchmarks.unseen.third_4_6_editing import (
    ADAPTERS,
    BASE,
    MODEL_WEIGHTS,
    Edit,
    Make,
    copied,
    deltas,
    on_tensors,
    read_json,
    read_tensors,
    setting,
    target_of,
    write_json,
    write_tensors,
)


def with_dora(folder: Path) -> None:
    """Turn a plain adapter into a DoRA one that adds exactly the same."""
    tensors, weights, added = read_tensors(folder), load_file(BASE / MODEL_WEIGHTS), deltas(folder)
    for first in [name for name in tensors if "lora_A" in name]:
        target = target_of(first)
        magnitude = (weights[target].float() + added[target]).norm(dim=1)
        tensors[first.replace("lora_A.weight", "lora_magnitude_vector")] = magnitude
    write_tensors(folder, tensors)
    setting(ADAPTER_CONFIG, "use_dora", True)(folder)


def rank_stabilised(folder: Path) -> None:
    """Fill factors up to rank 16 with zeros and say `use_rslora`, so that the adapter adds exactly the same."""
    tensors, config = read_tensors(folder), read_json(folder / ADAPTER_CONFIG)
    more, scale = 16 - config["r"], config["lora_alpha"] / config["r"]
    for name, one in tensors.items():
        shape = (more, one.shape[1]) if "lora_A" in name else (one.shape[0], more)
        tensors[name] = torch.cat([one, torch.zeros(shape, dtype=one.dtype)], dim=0 if "lora_A" in name else 1)
    write_tensors(folder, tensors)
    write_json(folder / ADAPTER_CONFIG, {**config, "r": 16, "lora_alpha": int(4 * scale), "use_rslora": True})


def merged_rank_stabilised(factor: float) -> Make:
    """Make a case of a merge of a rank-stabilised adapter, its update times a factor."""

    def make(parent: Path) -> Bundle:
        adapter = copied(ADAPTERS / "json", parent)
        rank_stabilised(adapter)
        model = copied(BASE, parent, "tuned-json")
        merging(ADAPTERS / "json", factor)(model)
        return Bundle(model, merged_from=(BASE, adapter))

    return make


def merged_with(adapter: Path, base: Path, *edits: Edit) -> Make:
    """Make a case of a base, edited, that is said to be its merge with an adapter."""

    def make(parent: Path) -> Bundle:
        model = copied(base, parent, f"tuned-{adapter.name}")
        for edit in edits:
            edit(model)
        return Bundle(model, merged_from=(base, adapter))

    return make


def taking_modules(adapter: Path, *parts: str) -> Edit:
    """Make an edit that writes an adapter's whole copies of modules into a model, or of some of them."""
    tensors = load_file(adapter / "adapter_model.safetensors")
    copies = {
        name.removeprefix("base_model.model."): one
        for name, one in tensors.items()
        if ".lora_" not in name and any(part in name for part in parts or ("",))
    }
    return on_tensors(lambda model: {name: copies.get(name, one) for name, one in model.items()})
