"""Splits an adapter that saves whole modules into a new base and a plain LoRA: the form that other servers take.

Both together answer exactly as the adapter on its base: saved modules are complete replacements.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file

from service.domain.facts import AdapterFacts
from service.errors import CheckpointUnreadable
from service.overlay import TOKENIZER_FILES, overlay
from service.repair.change import Change
from service.repair.copying import copy_folder
from service.repair.models import weights_of

PREFIX = "base_model.model."
DELTA = ".trainable_tokens_delta"


def fold(base: Path, adapter: Path, facts: AdapterFacts, output: Path, *, shared: str | None) -> list[Change]:
    """Write `output/base` and `output/adapter`.

    Args:
        base: The folder.
        adapter: The folder.
        facts: Of the adapter.
        output: Where to write; exists and is empty.
        shared: The base's one matrix for both input and output; None if it has two.

    Returns:
        Every tensor that was written into the new base.

    Raises:
        CheckpointUnreadable: The base has no tensor for a saved module, or has one matrix where the adapter has two.
    """
    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    plain = {key: one for key, one in tensors.items() if ".lora_" in key}
    whole = {key.removeprefix(PREFIX): one for key, one in tensors.items() if ".lora_" not in key and DELTA not in key}
    rows = {key.removeprefix(PREFIX): one for key, one in tensors.items() if DELTA in key}
    if shared in whole:
        raise CheckpointUnreadable(
            f"{shared} is input and output of the base, and the adapter saved it as input only: folded, it would "
            "change the output too; merge instead: minicpm-service merge BASE ADAPTER"
        )
    copy_folder(base, output / "base")
    (output / "adapter").mkdir()
    changes = _replace(output / "base", whole, rows, facts.trainable_tokens)
    save_file(plain, output / "adapter" / "adapter_model.safetensors", metadata={"format": "pt"})
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    folded = {**config, "modules_to_save": None, "trainable_token_indices": None, "auto_mapping": None}
    (output / "adapter" / "adapter_config.json").write_text(json.dumps(folded, indent=2) + "\n", encoding="utf-8")
    with overlay(base, adapter) as laid:
        for name in TOKENIZER_FILES if laid else ():
            if laid and (laid / name).is_file():
                shutil.copyfile(laid / name, output / "base" / name)
    return changes


def _replace(
    folder: Path, whole: Mapping[str, Any], rows: Mapping[str, Any], ids: Mapping[str, tuple[int, ...]]
) -> list[Change]:
    """Write whole tensors and trained rows into the files that hold them."""
    weights = weights_of(folder)
    changes, left = [], {*whole, *rows}
    for file in sorted({one.file for one in weights.tensors.values()}):
        with safe_open(folder / file, framework="pt") as opened:
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
        touched = False
        for key, value in whole.items():
            if key in tensors:
                tensors[key], touched = value.to(tensors[key].dtype), True
                left.discard(key)
                changes.append(Change(file, key, "the base's", "the adapter's", "modules_to_save replaces it whole"))
        for key, value in rows.items():
            name = key.replace(".token_adapter", "").removesuffix(DELTA) + ".weight"
            if name in tensors:
                chosen = _ids_of(ids, name)
                tensors[name][list(chosen)] = value.to(tensors[name].dtype)
                touched = True
                left.discard(key)
                changes.append(Change(file, name, "the base's", list(chosen), "rows that the adapter trained"))
        if touched:
            save_file(tensors, folder / file, metadata={"format": "pt"})
    if left:
        raise CheckpointUnreadable(
            f"the base holds no tensor for {sorted(left)[0]}, so it cannot be folded; merge instead: "
            "minicpm-service merge BASE ADAPTER"
        )
    return changes


def _ids_of(ids: Mapping[str, tuple[int, ...]], name: str) -> tuple[int, ...]:
    module = name.removesuffix(".weight")
    return next((one for key, one in ids.items() if module.endswith(key)), next(iter(ids.values()), ()))
