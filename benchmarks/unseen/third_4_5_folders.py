"""Copies and edits of the demo in the layout of MiniCPM-V 4.5, for the cases of `wave_third_4_5`.

Knows file formats, and nothing of what is wrong with a folder: that is said where a case is.
"""

import json
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from benchmarks.unseen.case import Bundle, Case
from service.demo import demo_root

Tensors = dict[str, torch.Tensor]
Document = dict[str, Any]
Make = Callable[[Path], Bundle]

DEMO = demo_root() / "minicpmv4_5"
OTHER_BASE = demo_root() / "base"
"""The demo in the layout of 4.6."""
WEIGHTS, SHARDS = "model.safetensors", "model.safetensors.index.json"
FACTORS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"
LAYERS = 4
PREFIX = "base_model.model."
"""What PEFT writes before the names of a model's modules."""
OLD_TOKENIZER_FILES = ("added_tokens.json", "special_tokens_map.json", "vocab.json", "merges.txt")
"""What transformers 5 no longer writes."""


class Collector:
    """Gathers cases; each is named as its function."""

    def __init__(self) -> None:
        self._cases: list[Case] = []

    @property
    def cases(self) -> tuple[Case, ...]:
        """All so far, in order."""
        return tuple(self._cases)

    def broken(self, why: str, *subjects: str) -> Callable[[Make], Make]:
        """Decorate a function that makes a folder which must be refused."""
        return self._adding(why, subjects)

    def harmless(self, why: str) -> Callable[[Make], Make]:
        """Decorate a function that makes a folder which must not be refused."""
        return self._adding(why, ())

    def _adding(self, why: str, subjects: tuple[str, ...]) -> Callable[[Make], Make]:
        def add(make: Make) -> Make:
            self._cases.append(Case(make.__name__.removeprefix("_"), make, why, subjects))
            return make

        return add


def copy_base(folder: Path, name: str = "model") -> Path:
    """Copy the base into a folder of that name."""
    return Path(shutil.copytree(DEMO / "base", folder / name))


def copy_adapter(folder: Path, name: str = "adapter") -> Path:
    """Copy the adapter of the official fine-tuning script into a folder of that name."""
    return Path(shutil.copytree(DEMO / "adapters" / "official", folder / name))


def adapted(folder: Path) -> tuple[Bundle, Path]:
    """Copy base and adapter; return what is handed over, and the adapter's folder to be edited."""
    adapter = copy_adapter(folder)
    return Bundle(copy_base(folder), {"polite": adapter}), adapter


@contextmanager
def json_of(path: Path) -> Iterator[Document]:
    """Read an object, and write it again with what was changed."""
    document: Document = json.loads(path.read_text(encoding="utf-8"))
    yield document
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def tensors_of(folder: Path, name: str = WEIGHTS) -> Iterator[Tensors]:
    """Read a file's tensors, and write them again with what was changed."""
    tensors = load_file(folder / name)
    yield tensors
    save(folder, tensors, name)


def save(folder: Path, tensors: Mapping[str, torch.Tensor], name: str = WEIGHTS) -> None:
    """Write tensors, each with memory of its own, as training scripts do."""
    own = {key: one.contiguous().clone() for key, one in tensors.items()}
    save_file(own, folder / name, metadata={"format": "pt"})


def shard(folder: Path, shards: int) -> None:
    """Replace the one file of weights by shards and their index."""
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names = sorted(tensors)
    size = -(-len(names) // shards)
    places: dict[str, str] = {}
    for number in range(shards):
        part = names[number * size : (number + 1) * size]
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        save(folder, {name: tensors[name] for name in part}, file)
        places |= dict.fromkeys(part, file)
    total = sum(one.numel() * one.element_size() for one in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / SHARDS).write_text(json.dumps(index, indent=2), encoding="utf-8")


def pairs_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return the float32 factors A and B of each adapted module by its name in the base."""
    ending = ".lora_A.weight"
    modules = [name.removesuffix(ending) for name in tensors if name.endswith(ending)]
    return {
        one.removeprefix(PREFIX): (tensors[one + ending].float(), tensors[one + ".lora_B.weight"].float())
        for one in modules
    }


def merge(
    model: Path,
    adapter: Path,
    *,
    times: float = 1.0,
    only: Collection[str] = (),
    with_copies: bool = True,
) -> None:
    """Write an adapter into a model's weights, computed in float32.

    Args:
        model: Changed.
        adapter: As PEFT wrote it.
        times: Of the update that its settings say.
        only: Ends of the names of the modules to merge; empty for all.
        with_copies: Take the modules that the adapter saved whole, too.
    """
    settings = json.loads((adapter / SETTINGS).read_text(encoding="utf-8"))
    scale = times * settings["lora_alpha"] / settings["r"]
    factors = load_file(adapter / FACTORS)
    with tensors_of(model) as tensors:
        for module, (first, second) in pairs_of(factors).items():
            weight = f"{module}.weight"
            if not only or module.endswith(tuple(only)):
                tensors[weight] = (tensors[weight].float() + scale * second @ first).to(tensors[weight].dtype)
        if with_copies:
            whole = {name.removeprefix(PREFIX): one for name, one in factors.items() if ".lora_" not in name}
            tensors.update({name: one for name, one in whole.items() if name in tensors})


def merged(folder: Path, name: str = "merged", **how: Any) -> Path:
    """Return a copy of the base with the adapter merged; `how` as of `merge`."""
    model = copy_base(folder, name)
    merge(model, DEMO / "adapters" / "official", **how)
    return model


def noise(like: torch.Tensor, seed: int, scale: float) -> torch.Tensor:
    """Return normal noise of a tensor's shape and type."""
    return (torch.randn(like.shape, generator=torch.Generator().manual_seed(seed)) * scale).to(like.dtype)


def template_of(folder: Path, change: Callable[[str], str]) -> None:
    """Change the chat template in tokenizer_config.json."""
    with json_of(folder / "tokenizer_config.json") as config:
        config["chat_template"] = change(config["chat_template"])


def add_tokens(folder: Path, tokens: Collection[str], start: int, *, is_special: bool = True) -> None:
    """Add tokens to every file of a tokenizer that lists them, as `add_tokens` and saving do."""
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": is_special}
    numbered = {token: number for number, token in enumerate(tokens, start)}
    with json_of(folder / "tokenizer.json") as document:
        document["added_tokens"] += [{"id": number, "content": token, **flags} for token, number in numbered.items()]
    with json_of(folder / "tokenizer_config.json") as config:
        config["added_tokens_decoder"] |= {
            str(number): {"content": token, **flags} for token, number in numbered.items()
        }
    if (folder / "added_tokens.json").is_file():
        with json_of(folder / "added_tokens.json") as added:
            added |= numbered


def resize(folder: Path, rows: Mapping[str, torch.Tensor], size: int | None = None) -> None:
    """Append rows to matrices of a model, and say the new size in config.json unless told another."""
    with tensors_of(folder) as tensors:
        for name, more in rows.items():
            tensors[name] = torch.cat([tensors[name], more.to(tensors[name].dtype)])
            size = size or len(tensors[name])
    with json_of(folder / "config.json") as config:
        config["vocab_size"] = size
