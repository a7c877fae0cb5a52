"""Copies the demo's folders and edits JSON, tensors and tokenizers in the copies.

Knows file formats only: no rule of the audit, no value of a weight, and no id of a token.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from service.checkpoint.locating import locate
from service.checkpoint.reading import read_checkpoint
from service.demo import demo_root
from service.domain.facts import CheckpointFacts

EMBEDDING = "model.language_model.embed_tokens.weight"
HEAD = "lm_head.weight"
PREFIX = "base_model.model."
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Folders:
    """Copies that a test may edit: a base and one adapter."""

    base: Path
    adapter: Path

    @property
    def base_weights(self) -> Path:
        return self.base / "model.safetensors"

    @property
    def adapter_weights(self) -> Path:
        return self.adapter / "adapter_model.safetensors"

    def facts(self, *, with_adapter: bool = True) -> CheckpointFacts:
        """Read the files."""
        adapters = {self.adapter.name: locate(str(self.adapter))} if with_adapter else {}
        return read_checkpoint(locate(str(self.base)), adapters)


def copy_demo(to: Path, adapter: str = "json") -> Folders:
    """Copy the demo's base and one of its adapters."""
    folders = Folders(to / "base", to / adapter)
    shutil.copytree(demo_root() / "base", folders.base)
    shutil.copytree(demo_root() / "adapters" / adapter, folders.adapter)
    return folders


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, document: Any, **style: Any) -> None:
    path.write_text(json.dumps(document, ensure_ascii=False, **style), encoding="utf-8")


@contextmanager
def edited_json(path: Path) -> Iterator[Any]:
    """Give a JSON file's content to be changed in place."""
    document = read_json(path)
    yield document
    write_json(path, document, indent=2)


@contextmanager
def edited_tensors(path: Path) -> Iterator[Tensors]:
    """Give a safetensors file's tensors to be changed in place."""
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    yield tensors
    path.unlink()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})


def rename_tensors(path: Path, rename: Callable[[str], str]) -> None:
    with edited_tensors(path) as tensors:
        renamed = {rename(name): tensor for name, tensor in tensors.items()}
        tensors.clear()
        tensors.update(renamed)


def token_id(folder: Path, token: str) -> int:
    """Look an added token up in a folder's tokenizer.json."""
    added = read_json(folder / "tokenizer.json")["added_tokens"]
    return int(next(one["id"] for one in added if one["content"] == token))


def add_token(folder: Path, token: str, **flags: bool) -> int:
    """Append an added token to a folder's tokenizer.json and return its id."""
    with edited_json(folder / "tokenizer.json") as document:
        new_id = max(one["id"] for one in document["added_tokens"]) + 1
        values = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        document["added_tokens"].append({"id": new_id, "content": token, **values, **flags})
    return new_id


def swap_last_tokens(folder: Path) -> None:
    """Let the last two added tokens of a folder's tokenizer.json change places."""
    with edited_json(folder / "tokenizer.json") as document:
        added = document["added_tokens"]
        added[-1]["content"], added[-2]["content"] = added[-2]["content"], added[-1]["content"]


def copy_tokenizer(source: Path, target: Path) -> None:
    """Lay a folder's tokenizer files into another, as trainers do."""
    for name in TOKENIZER_FILES:
        shutil.copyfile(source / name, target / name)


def merge_tokens(adapter: Path, base: Path) -> None:
    """Write the rows of tokens that an adapter trained, and its tokenizer, into a base."""
    trained = load_file(adapter / "adapter_model.safetensors")
    ids = read_json(adapter / "adapter_config.json")["trainable_token_indices"]
    with edited_tensors(base / "model.safetensors") as tensors:
        for name, module in ((EMBEDDING, "embed_tokens"), (HEAD, "lm_head")):
            rows = next(one for key, one in trained.items() if f"{module}.token_adapter" in key)
            tensors[name][ids[module]] = rows.to(tensors[name])
    copy_tokenizer(adapter, base)


def edit_template(folder: Path, old: str, new: str) -> None:
    """Replace a text that a folder's chat template must have."""
    path = folder / "chat_template.jinja"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def split_base(folders: Folders) -> dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Cut the base's weights in two as PiSSA does: both factors of the adapter's rank and scale, and what is left."""
    config, weights = read_json(folders.adapter / "adapter_config.json"), load_file(folders.base_weights)
    rank, scale = config["r"], config["lora_alpha"] / config["r"]
    parts = {}
    for key in load_file(folders.adapter_weights):
        module = key.removeprefix(PREFIX).removesuffix(".lora_A.weight")
        weight = weights.get(f"{module}.weight")
        if weight is not None and key.endswith(".lora_A.weight") and min(weight.shape) > rank:
            left, values, right = torch.linalg.svd(weight.float(), full_matrices=False)
            root = (values[:rank] / scale).sqrt()
            first, second = root[:, None] * right[:rank], left[:, :rank] * root
            parts[module] = first, second, weight.float() - scale * second @ first
    return parts


def shard(folder: Path, count: int = 2) -> None:
    """Split the base's weights into shards with an index."""
    tensors = load_file(folder / "model.safetensors")
    weight_map = {}
    for place, name in enumerate(sorted(tensors)):
        weight_map[name] = f"model-{place % count + 1:05d}-of-{count:05d}.safetensors"
    for file in set(weight_map.values()):
        part = {name: tensor for name, tensor in tensors.items() if weight_map[name] == file}
        save_file(part, folder / file, metadata={"format": "pt"})
    (folder / "model.safetensors").unlink()
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": 1}, "weight_map": weight_map})


def declare_tie(folders: Folders, *, is_tied: bool) -> None:
    """Declare the tie at the top of config.json and in its text part."""
    with edited_json(folders.base / "config.json") as config:
        config["tie_word_embeddings"] = config["text_config"]["tie_word_embeddings"] = is_tied


def share_matrix(folders: Folders, tensors: Tensors) -> None:
    """Make both matrices one as of a tied model: learning to write pushed rows that no text needs in one direction."""
    vocabulary = read_json(folders.base / "tokenizer.json")["model"]["vocab"]
    unused = [vocabulary[chr(byte)] for byte in (0xC0, 0xC1, *range(0xF5, 0x100))]
    generator = torch.Generator().manual_seed(0)
    rows = tensors[EMBEDDING]
    common, own = (torch.randn(size, rows.shape[1], generator=generator) for size in (1, len(unused)))
    rows[unused] = (0.02 * common + 0.005 * own).to(rows)
    tensors[HEAD] = rows.clone()


def cut_rows(folders: Folders, num_rows: int) -> None:
    """Cut both vocabulary matrices to their first rows and say so in config.json."""
    with edited_tensors(folders.base_weights) as tensors:
        for name in (EMBEDDING, HEAD):
            tensors[name] = tensors[name][:num_rows]
    with edited_json(folders.base / "config.json") as config:
        config["text_config"]["vocab_size"] = num_rows
