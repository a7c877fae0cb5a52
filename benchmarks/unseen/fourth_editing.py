"""What the cases of this wave share beyond `third_4_6_editing`: the folders of 4.5, and edits of several cases."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from benchmarks.unseen.case import Bundle
from benchmarks.unseen.third_4_6_editing import (
    ADAPTER_WEIGHTS,
    DEMO,
    Edit,
    Make,
    Tensors,
    copied,
    deltas,
    mapped,
    merge_into,
    on_json,
    on_tensors,
    read_json,
    setting,
    write_json,
)

BASE_4_5 = DEMO / "minicpmv4_5" / "base"
ADAPTERS_4_5 = DEMO / "minicpmv4_5" / "adapters"
CONFIG, GENERATION, ADAPTER_CONFIG = "config.json", "generation_config.json", "adapter_config.json"
TOKENIZER, TOKENIZER_CONFIG, TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
PROCESSOR, PREPROCESSOR = "processor_config.json", "preprocessor_config.json"


def alone_4_5(edit: Edit, *, with_base: bool = False) -> Make:
    """Make a case of the base of 4.5, edited; `with_base` tells what it was tuned from."""

    def make(parent: Path) -> Bundle:
        model = copied(BASE_4_5, parent)
        edit(model)
        return Bundle(model, base=BASE_4_5 if with_base else None)

    return make


def adapted_4_5(edit: Edit) -> Make:
    """Make a case of the base of 4.5 with its adapter `official`, edited."""

    def make(parent: Path) -> Bundle:
        folder = copied(ADAPTERS_4_5 / "official", parent)
        edit(folder)
        return Bundle(BASE_4_5, {"official": folder})

    return make


def said_to_merge_4_5(edit: Edit) -> Make:
    """Make a case of the base of 4.5, edited, that is said to be the merge of its adapter `official`."""

    def make(parent: Path) -> Bundle:
        model = copied(BASE_4_5, parent, "tuned-official")
        edit(model)
        return Bundle(model, merged_from=(BASE_4_5, ADAPTERS_4_5 / "official"))

    return make


def swapped(*pairs: tuple[str, str]) -> Edit:
    """Make an edit that swaps tensors, each by its whole name."""

    def change(tensors: Tensors) -> None:
        for one, other in pairs:
            tensors[one], tensors[other] = tensors[other], tensors[one]

    return on_tensors(change)


def on_tensor(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Edit:
    """Make an edit that replaces one tensor by what `change` makes of it."""

    def edit(tensors: Tensors) -> None:
        tensors[name] = change(tensors[name].clone())

    return on_tensors(edit)


def writing(file: str, text: str) -> Edit:
    """Make an edit that writes a text file, over what there may be."""

    def edit(folder: Path) -> None:
        (folder / file).write_text(text, encoding="utf-8")

    return edit


def tokenizer_part(key: str, value: Any) -> Edit:
    """Make an edit that replaces a top-level part of tokenizer.json."""
    return setting(TOKENIZER, key, value)


def on_added_tokens(change: Callable[[dict[str, Any]], None]) -> Edit:
    """Make an edit of every added token of tokenizer.json, in place."""

    def edit(content: dict[str, Any]) -> None:
        for token in content["added_tokens"]:
            change(token)

    return on_json(TOKENIZER, edit)


def with_rows(count: int, fill: Callable[[torch.Tensor], torch.Tensor], *names: str) -> Edit:
    """Make an edit that gives matrices so many rows, with what `fill` makes of a matrix for each row too few."""

    def change(tensors: Tensors) -> None:
        for name in names:
            old = tensors[name]
            missing = max(0, count - len(old))
            tensors[name] = torch.cat([old[:count], fill(old).expand(missing, -1)])

    return on_tensors(change)


def mean_row(matrix: torch.Tensor) -> torch.Tensor:
    """Return the mean of a matrix's rows, as transformers starts new ones."""
    return matrix.float().mean(0, keepdim=True).to(matrix.dtype)


def zero_row(matrix: torch.Tensor) -> torch.Tensor:
    """Return a row of zeros."""
    return torch.zeros_like(matrix[:1])


def noise(like: torch.Tensor, share: float, seed: int) -> torch.Tensor:
    """Return noise of a tensor's shape, its deviation a share of the tensor's."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(like.shape, generator=generator) * like.float().std() * share


def merging(adapter: Path, factor: float = 1.0, only: Callable[[str], bool] = lambda _: True) -> Edit:
    """Make an edit that adds an adapter's updates to a model, times a factor, or to some of its weights only."""
    return on_tensors(
        lambda tensors: merge_into(tensors, {k: v for k, v in deltas(adapter).items() if only(k)}, factor)
    )


def saved_modules(adapter: Path) -> Tensors:
    """Return the modules that an adapter has whole copies of, by the names of the model's tensors."""
    tensors = load_file(adapter / ADAPTER_WEIGHTS)
    return {name.removeprefix("base_model.model."): one for name, one in tensors.items() if ".lora_" not in name}


def keeping_settings(*keys: str) -> Edit:
    """Make an edit of adapter_config.json that keeps some keys only, as older versions of PEFT had no others."""

    def edit(folder: Path) -> None:
        content = read_json(folder / ADAPTER_CONFIG)
        write_json(folder / ADAPTER_CONFIG, {key: content[key] for key in keys})

    return edit


def names_of(tensors: Mapping[str, torch.Tensor], parts: Iterable[str]) -> list[str]:
    """List the tensors whose names contain one of the parts."""
    wanted = tuple(parts)
    return [name for name in tensors if any(part in name for part in wanted)]


def to_type(kind: torch.dtype) -> Edit:
    """Make an edit that casts every tensor."""
    return mapped(lambda tensor: tensor.to(kind), "")


def trainer_leftovers(folder: Path) -> None:
    """Write the files that a trainer leaves beside a checkpoint."""
    write_json(folder / "trainer_state.json", {"epoch": 3.0, "global_step": 400, "log_history": []})
    (folder / "training_args.bin").write_bytes(b"PK\x03\x04")
    (folder / "rng_state.pth").write_bytes(b"PK\x03\x04")
    (folder / "latest").write_text("global_step400", encoding="utf-8")
    (folder / "README.md").write_text("---\nlibrary_name: peft\n---\n", encoding="utf-8")
