"""What the adapters of the sixth wave share: merges of whole adapters, DoRA, and texts that come with an adapter."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from benchmarks.unseen.case import Bundle
from benchmarks.unseen.fourth_editing import (
    ADAPTER_CONFIG,
    ADAPTERS_4_5,
    TEMPLATE,
    TOKENIZER,
    TOKENIZER_CONFIG,
    merging,
    saved_modules,
)
from benchmarks.unseen.third_4_6_editing import (
    ADAPTER_WEIGHTS,
    ADAPTERS,
    BASE,
    MODEL_WEIGHTS,
    Edit,
    Make,
    Tensors,
    all_of,
    copied,
    deltas,
    merge_into,
    on_json,
    on_tensors,
    read_json,
    taking,
    target_of,
    write_json,
    write_rows,
    write_tensors,
)

OFFICIAL_4_5 = ADAPTERS_4_5 / "official"
TEXT_FILES = (TOKENIZER, TOKENIZER_CONFIG, TEMPLATE)
Factors = Mapping[str, torch.Tensor]


def merge_of(edit: Edit, adapter: Path = ADAPTERS / "json", base: Path = BASE) -> Make:
    """Make a case of a copy of a base, edited, that is said to be the merge of an adapter."""

    def make(parent: Path) -> Bundle:
        model = copied(base, parent, f"merged-{adapter.name}")
        edit(model)
        return Bundle(model, merged_from=(base, adapter))

    return make


def with_saved_modules(adapter: Path) -> Edit:
    """Make an edit that writes the modules an adapter has whole copies of into a model."""

    def change(tensors: Tensors) -> None:
        for name, one in saved_modules(adapter).items():
            tensors[name] = one.to(tensors[name].dtype)

    return on_tensors(change)


def whole_merge(adapter: Path) -> Edit:
    """Make an edit that merges factors and saved modules, as `merge_and_unload` does."""
    return all_of(merging(adapter), with_saved_modules(adapter))


def merge_tokens(folder: Path) -> None:
    """Merge the adapter `tokens` and its rows, and bring its tokenizer."""

    def change(tensors: Tensors) -> None:
        merge_into(tensors, deltas(ADAPTERS / "tokens"))
        write_rows(tensors)

    on_tensors(change)(folder)
    with_texts_of(ADAPTERS / "tokens")(folder)


def with_texts_of(source: Path) -> Edit:
    """Make an edit that brings the tokenizer and the template of another folder."""
    return all_of(*(taking(file, source) for file in TEXT_FILES))


def pairs_of(tensors: Factors) -> list[tuple[str, str]]:
    """List the names of both factors of each target."""
    return [(name, name.replace("lora_A", "lora_B")) for name in tensors if "lora_A" in name]


def on_factors(change: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], Factors], base: Path = BASE) -> Edit:
    """Make an edit of each pair of factors; `change` gets both and the weight, and returns new ones as A and B."""

    def edit(folder: Path) -> None:
        weights = load_file(base / MODEL_WEIGHTS)
        tensors = load_file(folder / ADAPTER_WEIGHTS)
        for first, second in pairs_of(tensors):
            old = tensors[first].float(), tensors[second].float()
            new = change(*old, weights[target_of(first)].float())
            tensors[first], tensors[second] = new["A"].to(torch.bfloat16), new["B"].to(torch.bfloat16)
        write_tensors(folder, tensors)

    return edit


def configured(**settings: Any) -> Edit:
    """Make an edit that sets keys of adapter_config.json."""
    return on_json(ADAPTER_CONFIG, lambda content: content.update(settings))


def as_dora(base: Path, name: str = "lora_magnitude_vector.weight") -> Edit:
    """Make an edit that writes plain LoRA as DoRA with the magnitudes that the sum has, so that nothing changes."""

    def edit(folder: Path) -> None:
        config = read_json(folder / ADAPTER_CONFIG)
        weights, tensors = load_file(base / MODEL_WEIGHTS), load_file(folder / ADAPTER_WEIGHTS)
        scale = config["lora_alpha"] / config["r"]
        for first, second in pairs_of(tensors):
            whole = weights[target_of(first)].float() + scale * (tensors[second].float() @ tensors[first].float())
            tensors[first.replace("lora_A.weight", name)] = whole.norm(dim=1)
        write_tensors(folder, tensors)
        write_json(folder / ADAPTER_CONFIG, {**config, "use_dora": True})

    return edit


def template_of(folder: Path) -> str:
    """Read the chat template of a folder, wherever it lies."""
    path = folder / TEMPLATE
    if path.exists():
        return path.read_text(encoding="utf-8")
    return str(read_json(folder / TOKENIZER_CONFIG)["chat_template"])


def with_template(change: Callable[[str], str], source: Path = BASE) -> Edit:
    """Make an edit that gives an adapter the tokenizer of its base, and a template made of the base's."""

    def edit(folder: Path) -> None:
        if not (folder / TOKENIZER).exists():
            with_texts_of(source)(folder)
        old = template_of(folder)
        new = change(old)
        if new == old:
            raise ValueError("the template is as it was")
        if (folder / TEMPLATE).exists():
            (folder / TEMPLATE).write_text(new, encoding="utf-8")
        else:
            on_json(TOKENIZER_CONFIG, lambda content: content.update(chat_template=new))(folder)

    return edit


def exchanged(*pairs: tuple[str, str]) -> Callable[[str], str]:
    """Make a change of a text that replaces parts, each of which must be there."""

    def change(text: str) -> str:
        for old, new in pairs:
            if old not in text:
                raise ValueError(f"the text has no {old!r}")
            text = text.replace(old, new)
        return text

    return change
