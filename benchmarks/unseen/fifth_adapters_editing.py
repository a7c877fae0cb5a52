"""What the cases of this wave share beyond the waves before: merges of any adapter, and other kinds of adapters."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from benchmarks.unseen.case import Bundle
from benchmarks.unseen.fourth_editing import ADAPTER_CONFIG, CONFIG, saved_modules
from benchmarks.unseen.third_4_6_editing import (
    ADAPTER_WEIGHTS,
    ADAPTERS,
    BASE,
    MODEL_WEIGHTS,
    Edit,
    Make,
    Tensors,
    copied,
    deltas,
    merge_into,
    read_json,
    read_lora,
    read_tensors,
    target_of,
    write_json,
    write_rows,
    write_tensors,
)

JSON, TOKENS, OFFICIAL = ADAPTERS / "json", ADAPTERS / "tokens", ADAPTERS / "official"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
RANK = 8
"""Of the adapters `json` and `tokens`; their scale is 2."""


def whole_merge(adapter: Path) -> Edit:
    """Make an edit that merges everything an adapter of 4.6 has: updates, whole modules, rows, tokenizer."""

    def edit(folder: Path) -> None:
        tensors = read_tensors(folder)
        merge_into(tensors, deltas(adapter))
        whole = saved_modules(adapter)
        tensors |= {name: one.to(tensors[name].dtype) for name, one in whole.items() if name in tensors}
        if any("trainable_tokens_delta" in name for name in whole):
            write_rows(tensors, adapter)
        write_tensors(folder, tensors)
        for file in TOKENIZER_FILES:
            if (adapter / file).exists():
                shutil.copyfile(adapter / file, folder / file)

    return edit


def merge_of(adapter: Path, edit: Edit, *, with_base: bool = False) -> Make:
    """Make a case of a model said to be a merge; `with_base` tells only its base, and not the adapter."""

    def make(parent: Path) -> Bundle:
        model = copied(BASE, parent, f"tuned-{adapter.name}")
        edit(model)
        return Bundle(model, base=BASE) if with_base else Bundle(model, merged_from=(BASE, adapter))

    return make


def merge_of_changed(change: Edit, edit: Callable[[Path, Path], None]) -> Make:
    """Make a case of a merge of the adapter `json`, changed first; `edit` gets the model and that adapter."""

    def make(parent: Path) -> Bundle:
        adapter, model = copied(JSON, parent), copied(BASE, parent, "tuned-json")
        change(adapter)
        edit(model, adapter)
        return Bundle(model, merged_from=(BASE, adapter))

    return make


def with_settings(settings: Mapping[str, Any]) -> Edit:
    """Make an edit of several settings of adapter_config.json."""

    def edit(folder: Path) -> None:
        write_json(folder / ADAPTER_CONFIG, {**read_json(folder / ADAPTER_CONFIG), **settings})

    return edit


def with_config(settings: Mapping[str, Any]) -> Edit:
    """Make an edit of several settings of config.json."""

    def edit(folder: Path) -> None:
        write_json(folder / CONFIG, {**read_json(folder / CONFIG), **settings})

    return edit


def to_dora(adapter: Path) -> None:
    """Write a plain adapter as DoRA that computes the same: its magnitudes are the norms of the sums."""
    base, updates = load_file(BASE / MODEL_WEIGHTS), deltas(adapter)
    tensors = read_tensors(adapter)
    for name in list(tensors):
        if name.endswith("lora_A.weight"):
            target = target_of(name)
            whole = base[target].float() + updates[target]
            tensors[name.replace("lora_A.weight", "lora_magnitude_vector")] = whole.norm(dim=1)
    write_tensors(adapter, tensors)
    with_settings({"use_dora": True})(adapter)


def to_pissa(adapter: Path) -> None:
    """Write a plain adapter as PiSSA leaves one: beside the update, it has the base's greatest components."""
    tensors, base = read_lora(adapter), load_file(BASE / MODEL_WEIGHTS)
    for first in [name for name in tensors if "lora_A" in name]:
        second = first.replace("lora_A", "lora_B")
        left, values, right = torch.linalg.svd(base[target_of(first)].float(), full_matrices=False)
        rank = min(RANK, len(values))
        root = (values[:rank] / 2).sqrt()  # the adapter's scale is 2
        own_a, own_b = root[:, None] * right[:rank], left[:, :rank] * root
        missing = RANK - rank
        own_a = torch.nn.functional.pad(own_a, (0, 0, 0, missing))
        own_b = torch.nn.functional.pad(own_b, (0, missing))
        tensors[first] = torch.cat([tensors[first].float(), own_a])
        tensors[second] = torch.cat([tensors[second].float(), own_b], dim=1)
    write_tensors(adapter, tensors)
    with_settings({"r": 2 * RANK, "lora_alpha": 4 * RANK})(adapter)


def padded(adapter: Path) -> None:
    """Pad an adapter's factors with zeros to twice their rank, as servers do that mount several of one shape."""
    tensors = read_lora(adapter)
    for name, one in tensors.items():
        tensors[name] = torch.nn.functional.pad(one, (0, 0, 0, RANK) if "lora_A" in name else (0, RANK))
    write_tensors(adapter, tensors)
    with_settings({"r": 2 * RANK, "lora_alpha": 4 * RANK})(adapter)


def scaled_in(adapter: Path, factor: float) -> None:
    """Multiply the second factors of an adapter, in float32."""
    tensors = read_lora(adapter)
    write_tensors(adapter, {k: one.float() * factor if "lora_B" in k else one.float() for k, one in tensors.items()})


def fused_qkv(tensors: Tensors) -> Tensors:
    """Stack the factors of queries, keys and values into those of one matrix, as trainers of fused layers name it."""
    fused = {name: one for name, one in tensors.items() if not any(f".{kind}_proj.lora" in name for kind in "qkv")}
    for name in tensors:
        if ".q_proj.lora_A" in name:
            parts = [name.replace(".q_proj.", f".{kind}_proj.") for kind in "qkv"]
            fused[name.replace(".q_proj.", ".qkv_proj.")] = torch.cat([tensors[part] for part in parts])
            seconds = [tensors[part.replace("lora_A", "lora_B")] for part in parts]
            fused[name.replace(".q_proj.lora_A", ".qkv_proj.lora_B")] = torch.block_diag(*seconds)  # type: ignore[no-untyped-call]
    return fused


def split_in_proj(tensors: Tensors) -> Tensors:
    """Cut the factors of linear attention's one input matrix into those of queries, keys and values."""
    split = {name: one for name, one in tensors.items() if ".in_proj_qkv." not in name}
    for name, one in tensors.items():
        if ".in_proj_qkv.lora_A" in name:
            second = name.replace("lora_A", "lora_B")
            for kind, rows in zip("qkv", tensors[second].chunk(3), strict=True):
                split[name.replace("in_proj_qkv", f"in_proj_{kind}")] = one
                split[second.replace("in_proj_qkv", f"in_proj_{kind}")] = rows
    return split


def interleaved(weight: torch.Tensor, head: int = 64) -> torch.Tensor:
    """Permute each head's rows from two halves to pairs, as rotary positions are laid out elsewhere."""
    return weight.view(-1, 2, head // 2, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def adapter_file(folder: Path) -> Path:
    """Name an adapter's weights."""
    return folder / ADAPTER_WEIGHTS
