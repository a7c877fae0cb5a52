"""What the cases of this wave share: copying demo folders, and editing JSON, tensors and tokenizers in place."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from benchmarks.unseen.case import Bundle
from service.demo import demo_root

DEMO = demo_root()
BASE, MERGED, ADAPTERS = DEMO / "base", DEMO / "merged", DEMO / "adapters"
MODEL_WEIGHTS, ADAPTER_WEIGHTS = "model.safetensors", "adapter_model.safetensors"
INDEX = "model.safetensors.index.json"
MARKUP = ("<fig>", "</fig>", "<col>", "</col>", "<pos>", "</pos>")
"""The tokens that the adapter `tokens` adds, in the order of their ids."""
MARKUP_ROWS = slice(761, 767)
LANGUAGE_LAYERS = "model.language_model.layers."
HEAD, EMBEDDINGS = "lm_head.weight", "model.language_model.embed_tokens.weight"

Tensors = dict[str, torch.Tensor]
Edit = Callable[[Path], None]
Make = Callable[[Path], Bundle]


def copied(source: Path, parent: Path, name: str | None = None) -> Path:
    """Copy a demo folder into a folder, under its own name or another."""
    target = parent / (name or source.name)
    shutil.copytree(source, target)
    return target


def alone(edit: Edit, source: Path = BASE, *, with_base: bool = False) -> Make:
    """Make a case of one model, edited; `with_base` tells what it was tuned from."""

    def make(parent: Path) -> Bundle:
        model = copied(source, parent)
        edit(model)
        return Bundle(model, base=BASE if with_base else None)

    return make


def adapted(edit: Edit, adapter: str = "json", *, with_base: bool = False) -> Make:
    """Make a case of the demo's base with one adapter, the adapter edited."""

    def make(parent: Path) -> Bundle:
        folder = copied(ADAPTERS / adapter, parent)
        edit(folder)
        return Bundle(BASE, {adapter: folder}, base=BASE if with_base else None)

    return make


def said_to_merge(edit: Edit, source: Path = MERGED) -> Make:
    """Make a case of a model, edited, that is said to be the merge of the adapter `json` into the demo's base."""

    def make(parent: Path) -> Bundle:
        model = copied(source, parent, "tuned-json")
        edit(model)
        return Bundle(model, merged_from=(BASE, ADAPTERS / "json"))

    return make


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object as transformers does."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def setting(file: str, key: str, value: Any) -> Edit:
    """Make an edit that sets a key of a JSON file; dots in `key` lead into objects."""

    def edit(folder: Path) -> None:
        content = read_json(folder / file)
        *path, last = key.split(".")
        place = content
        for one in path:
            place = place[one]
        place[last] = value
        write_json(folder / file, content)

    return edit


def on_json(file: str, change: Callable[[dict[str, Any]], None]) -> Edit:
    """Make an edit of a JSON file; `change` alters its content in place."""

    def edit(folder: Path) -> None:
        content = read_json(folder / file)
        change(content)
        write_json(folder / file, content)

    return edit


def without_files(*files: str) -> Edit:
    """Make an edit that loses files."""

    def edit(folder: Path) -> None:
        for file in files:
            (folder / file).unlink()

    return edit


def without_setting(file: str, *keys: str) -> Edit:
    """Make an edit that removes keys of a JSON file."""

    def edit(folder: Path) -> None:
        content = read_json(folder / file)
        write_json(folder / file, {key: value for key, value in content.items() if key not in keys})

    return edit


def all_of(*edits: Edit) -> Edit:
    """Make an edit of several, in their order."""

    def edit(folder: Path) -> None:
        for one in edits:
            one(folder)

    return edit


def replacing(file: str, *pairs: tuple[str, str]) -> Edit:
    """Make an edit that replaces texts in a file, each of which must be there."""

    def edit(folder: Path) -> None:
        text = (folder / file).read_text(encoding="utf-8")
        for old, new in pairs:
            if old not in text:
                raise ValueError(f"{file} has no {old!r}")
            text = text.replace(old, new)
        (folder / file).write_text(text, encoding="utf-8")

    return edit


def weights_of(folder: Path) -> Path:
    """Name the one weight file of a folder, be it a model or an adapter."""
    path = folder / MODEL_WEIGHTS
    return path if path.exists() else folder / ADAPTER_WEIGHTS


def read_tensors(folder: Path) -> Tensors:
    """Read every tensor of a folder with one weight file."""
    tensors: Tensors = load_file(weights_of(folder))
    return tensors


def write_tensors(folder: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write every tensor of a folder with one weight file."""
    whole = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    save_file(whole, weights_of(folder), metadata={"format": "pt"})


def on_tensors(change: Callable[[Tensors], Tensors | None]) -> Edit:
    """Make an edit of tensors; `change` alters what it is given, or returns others."""

    def edit(folder: Path) -> None:
        tensors = read_tensors(folder)
        changed = change(tensors)
        write_tensors(folder, tensors if changed is None else changed)

    return edit


def mapped(change: Callable[[torch.Tensor], torch.Tensor], *parts: str) -> Edit:
    """Make an edit that changes each tensor whose name contains one of the parts."""
    return on_tensors(
        lambda tensors: {
            name: change(tensor) if any(part in name for part in parts) else tensor for name, tensor in tensors.items()
        }
    )


def renamed(change: Callable[[str], str]) -> Edit:
    """Make an edit that gives tensors other names."""
    return on_tensors(lambda tensors: {change(name): tensor for name, tensor in tensors.items()})


def without_tensors(*parts: str) -> Edit:
    """Make an edit that loses each tensor whose name contains one of the parts."""
    return on_tensors(
        lambda tensors: {name: tensor for name, tensor in tensors.items() if not any(part in name for part in parts)}
    )


def shards_of(tensors: Mapping[str, torch.Tensor], count: int) -> dict[str, Tensors]:
    """Deal tensors, in the order of their names, to as many shards as wanted, by the shards' file names."""
    names = sorted(tensors)
    size = -(-len(names) // count)
    return {
        f"model-{part + 1:05d}-of-{count:05d}.safetensors": {
            name: tensors[name].clone() for name in names[part * size : (part + 1) * size]
        }
        for part in range(count)
    }


def write_shards(folder: Path, shards: Mapping[str, Tensors]) -> None:
    """Write shards and their index beside whatever weights lie there."""
    total = sum(tensor.nbytes for shard in shards.values() for tensor in shard.values())
    where = {name: file for file, shard in shards.items() for name in shard}
    for file, shard in shards.items():
        save_file(shard, folder / file, metadata={"format": "pt"})
    write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": where})


def sharded(count: int) -> Edit:
    """Make an edit that splits the one weight file into shards with an index."""

    def edit(folder: Path) -> None:
        write_shards(folder, shards_of(read_tensors(folder), count))
        (folder / MODEL_WEIGHTS).unlink()

    return edit


def with_tokens(*tokens: str, special: bool = True, first_id: int | None = None) -> Edit:
    """Make an edit that adds tokens to tokenizer.json as transformers does, or from an id on."""

    def edit(folder: Path) -> None:
        content = read_json(folder / "tokenizer.json")
        added = content["added_tokens"]
        start = max(one["id"] for one in added) + 1 if first_id is None else first_id
        for token_id, token in enumerate(tokens, start=start):
            added.append({**added[-1], "id": token_id, "content": token, "special": special})
        write_json(folder / "tokenizer.json", content)

    return edit


def taking(file: str, source: Path) -> Edit:
    """Make an edit that copies a file from another folder."""

    def edit(folder: Path) -> None:
        shutil.copyfile(source / file, folder / file)

    return edit


def read_lora(adapter: Path) -> Tensors:
    """Read the factors of an adapter, and nothing else that it may have."""
    return {name: tensor for name, tensor in load_file(adapter / ADAPTER_WEIGHTS).items() if ".lora_" in name}


def target_of(name: str) -> str:
    """Name the weight of the model that a factor belongs to."""
    return name.removeprefix("base_model.model.").partition(".lora_")[0] + ".weight"


def deltas(adapter: Path = ADAPTERS / "json") -> Tensors:
    """Return what a plain LoRA adapter adds to each weight, in float32, by the weight's name."""
    config, factors = read_json(adapter / "adapter_config.json"), read_lora(adapter)
    scale = config["lora_alpha"] / config["r"]
    return {
        target_of(name): scale * (factors[name.replace("lora_A", "lora_B")].float() @ first.float())
        for name, first in factors.items()
        if "lora_A" in name
    }


def merge_into(tensors: Tensors, added: Mapping[str, torch.Tensor], factor: float = 1.0) -> None:
    """Add updates to weights in float32, and round to the weights' own type."""
    for name, update in added.items():
        tensors[name] = (tensors[name].float() + factor * update).to(tensors[name].dtype)


def write_rows(tensors: Tensors, adapter: Path = ADAPTERS / "tokens") -> None:
    """Write the trained rows of the adapter `tokens` into both matrices; PEFT keeps whole rows, not differences."""
    for name, rows in load_file(adapter / ADAPTER_WEIGHTS).items():
        if "trainable_tokens_delta" in name:
            target = name.removeprefix("base_model.model.").replace("token_adapter.trainable_tokens_delta", "weight")
            tensors[target][MARKUP_ROWS] = rows.to(tensors[target].dtype)


def halve_ranks_of_mlp(adapter: Path) -> None:
    """Write an adapter's feed-forward factors with half their rank, the best ones, and a `rank_pattern`."""
    tensors, config = read_tensors(adapter), read_json(adapter / "adapter_config.json")
    rank, kinds = config["r"] // 2, ("gate_proj", "up_proj", "down_proj")
    for first in [name for name in tensors if ".mlp." in name and "lora_A" in name]:
        second = first.replace("lora_A", "lora_B")
        left, values, right = torch.linalg.svd(tensors[second].float() @ tensors[first].float(), full_matrices=False)
        # PEFT divides alpha by each module's own rank, so that half the product is enough.
        tensors[second] = (left[:, :rank] * values[:rank] / 2).to(torch.bfloat16)
        tensors[first] = right[:rank].to(torch.bfloat16)
    write_tensors(adapter, tensors)
    write_json(adapter / "adapter_config.json", {**config, "rank_pattern": dict.fromkeys(kinds, rank)})
