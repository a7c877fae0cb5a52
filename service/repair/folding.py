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

from service.domain.factors import ROWS, is_of_lora, short_names
from service.domain.facts import AdapterFacts, BaseFacts
from service.errors import CheckpointUnreadable
from service.overlay import TOKENIZER_FILES, overlay
from service.repair.change import Change
from service.repair.copying import copy_folder
from service.repair.models import weights_of

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
NAMED_BASE = "base_model_name_or_path"
EMPTIED = ("modules_to_save", "trainable_token_indices", "auto_mapping")
MERGE = "merge instead: minicpm-service merge BASE ADAPTER"
DELTA = f".{ROWS}"


def fold(
    base: Path, adapter: Path, facts: AdapterFacts, base_facts: BaseFacts, output: Path, *, name: str
) -> list[Change]:
    """Write `output/base` and `output/adapter`.

    Args:
        base: The folder.
        adapter: The folder.
        facts: Of the adapter.
        base_facts: Of the base.
        output: Where to write; exists and is empty.
        name: What the plain LoRA is to call its base.

    Returns:
        Every tensor that was written into the new base, and the new name of the base.

    Raises:
        CheckpointUnreadable: The adapter is not of this base, or there is nothing to fold, or the base has no tensor
            for a saved module, or one matrix where the adapter has two.
    """
    tensors = tensors_of(adapter / WEIGHTS)
    plain, whole, rows = split(tensors)
    _refuse(facts, base_facts, whole, rows)
    copy_folder(base, output / "base")
    (output / "adapter").mkdir()
    changes = _replace(output / "base", whole, rows, facts.trainable_tokens)
    save_file(plain, output / "adapter" / WEIGHTS, metadata={"format": "pt"})
    config = json.loads((adapter / CONFIG).read_text(encoding="utf-8"))
    folded = {**config, **dict.fromkeys(EMPTIED), NAMED_BASE: name}
    (output / "adapter" / CONFIG).write_text(json.dumps(folded, indent=2) + "\n", encoding="utf-8")
    with overlay(base, adapter) as laid:
        for file in TOKENIZER_FILES if laid else ():
            if laid and (laid / file).is_file():
                shutil.copyfile(laid / file, output / "base" / file)
    return [*changes, Change(CONFIG, NAMED_BASE, config.get(NAMED_BASE), name, "the plain LoRA belongs to this base")]


def tensors_of(file: Path) -> dict[str, Any]:
    """Read a whole safetensors file."""
    with safe_open(file, framework="pt") as opened:
        return {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 - not a mapping


def split(tensors: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Part an adapter's tensors into factors, by their own keys, and whole ones and trained rows, by the base's."""
    plain = {key: one for key, one in tensors.items() if is_of_lora(key)}
    others = {name: tensors[key] for key, name in short_names(tensors).items() if key not in plain}
    whole = {name: one for name, one in others.items() if DELTA not in name}
    rows = {name: one for name, one in others.items() if DELTA in name}
    return plain, whole, rows


def matrix_of(key: str) -> str:
    """Return the base's matrix that trained rows belong to."""
    return key.replace(".token_adapter", "").removesuffix(DELTA) + ".weight"


def ids_of(ids: Mapping[str, tuple[int, ...]], matrix: str) -> tuple[int, ...]:
    """Return the rows of a matrix that were trained."""
    module = matrix.removesuffix(".weight")
    return next((one for key, one in ids.items() if module.endswith(key)), next(iter(ids.values()), ()))


def _refuse(facts: AdapterFacts, base: BaseFacts, whole: Mapping[str, Any], rows: Mapping[str, Any]) -> None:
    if unknown := facts.attachment.unknown:
        raise CheckpointUnreadable(
            f"{len(unknown)} of the adapter's {facts.attachment.num_modules} modules are not in this base, first "
            f"{unknown[0]}: name the base that it was trained on with --base"
        )
    if not whole and not rows:
        raise CheckpointUnreadable(
            "the adapter saves no whole module and trains no row, so there is nothing to fold: it is a plain LoRA"
        )
    if base.embedding and base.head is None and base.embedding.tensor in whole:
        raise CheckpointUnreadable(
            f"{base.embedding.tensor} is input and output of the base, and the adapter saved it as input only: folded, "
            f"it would change the output too; {MERGE}"
        )
    for name, one in whole.items():
        stored = base.tensors[name].shape if name in base.tensors else tuple(one.shape)
        if stored != tuple(one.shape):
            raise CheckpointUnreadable(
                f"{name} is {list(one.shape)} in the adapter and {list(stored)} in this base: name the base that it "
                "was trained on with --base"
            )


def _replace(
    folder: Path, whole: Mapping[str, Any], rows: Mapping[str, Any], ids: Mapping[str, tuple[int, ...]]
) -> list[Change]:
    """Write whole tensors and trained rows into the files that hold them."""
    weights = weights_of(folder)
    changes, left = [], {*whole, *rows}
    for file in sorted({one.file for one in weights.tensors.values()}):
        tensors = tensors_of(folder / file)
        touched = False
        for key, value in whole.items():
            if key in tensors:
                tensors[key], touched = value.to(tensors[key].dtype), True
                left.discard(key)
                changes.append(Change(file, key, "the base's", "the adapter's", "modules_to_save replaces it whole"))
        for key, value in rows.items():
            name = matrix_of(key)
            if name in tensors:
                chosen = ids_of(ids, name)
                tensors[name][list(chosen)] = value.to(tensors[name].dtype)
                touched = True
                left.discard(key)
                changes.append(Change(file, name, "the base's", list(chosen), "rows that the adapter trained"))
        if touched:
            save_file(tensors, folder / file, metadata={"format": "pt"})
    if left:
        raise CheckpointUnreadable(f"the base holds no tensor for {sorted(left)[0]}, so it cannot be folded; {MERGE}")
    return changes
