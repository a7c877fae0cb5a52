"""What the cases of adapters of this wave share beyond `fourth_editing`: adapters written otherwise, and merges."""

import math
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from benchmarks.unseen.case import Bundle
from benchmarks.unseen.fourth_editing import ADAPTER_CONFIG, ADAPTERS_4_5
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
    on_json,
    on_tensors,
    setting,
    target_of,
)

JSON, TOKENS, OFFICIAL_4_5 = ADAPTERS / "json", ADAPTERS / "tokens", ADAPTERS_4_5 / "official"
PREFIX = "base_model.model."
Pair = Callable[[str, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def config(**settings: object) -> Edit:
    """Make an edit of adapter_config.json that sets keys."""
    return on_json(ADAPTER_CONFIG, lambda content: content.update(settings))


def on_factors(change: Pair) -> Edit:
    """Make an edit of each pair of factors, given the name of their weight, `lora_A` and `lora_B`."""

    def edit(tensors: Tensors) -> None:
        for first in [name for name in tensors if ".lora_A." in name]:
            second = first.replace(".lora_A.", ".lora_B.")
            tensors[first], tensors[second] = change(target_of(first), tensors[first], tensors[second])

    return on_tensors(edit)


def widened(rank: int, only: tuple[str, ...] = ("",)) -> Edit:
    """Make an edit that fills factors up with zeros to a rank, which changes no product."""

    def change(name: str, first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if not any(part in name for part in only):
            return first, second
        rows, columns = first.new_zeros(rank - len(first), first.shape[1]), second.new_zeros(len(second), rank)
        columns[:, : second.shape[1]] = second
        return torch.cat([first, rows]), columns

    return on_factors(change)


def folded(factor: float) -> Edit:
    """Make an edit that multiplies each `lora_B`."""
    return on_factors(lambda _, first, second: (first, (second.float() * factor).to(second.dtype)))


def with_magnitudes(magnitude: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Edit:
    """Make an edit that turns the adapter `json` into DoRA; `magnitude` gets the base's weight and the updated one."""

    def change(tensors: Tensors) -> None:
        weights = load_file(BASE / MODEL_WEIGHTS)
        for first in [name for name in tensors if ".lora_A." in name]:
            update = 2.0 * tensors[first.replace(".lora_A.", ".lora_B.")].float() @ tensors[first].float()
            weight = weights[target_of(first)].float()
            name = first.replace(".lora_A.weight", ".lora_magnitude_vector")
            tensors[name] = magnitude(weight, weight + update)

    return all_of(on_tensors(change), setting(ADAPTER_CONFIG, "use_dora", True))


def fresh_magnitude(weight: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """Return the norms of the rows of a linear layer as torch starts it."""
    layer = torch.empty_like(weight)
    torch.nn.init.kaiming_uniform_(layer, a=math.sqrt(5), generator=torch.Generator().manual_seed(7))
    norms: torch.Tensor = torch.linalg.vector_norm(layer, dim=1)
    return norms


def saved_with(adapter: str, *names: str) -> Edit:
    """Make an edit that adds whole copies of tensors of the base to an adapter, as if it had trained them."""

    def edit(folder: Path) -> None:
        weights = load_file(BASE / MODEL_WEIGHTS)
        tensors = load_file(ADAPTERS / adapter / ADAPTER_WEIGHTS)
        tensors |= {PREFIX + name: weights[name] for name in names}
        save_file(tensors, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})

    return edit


def merged_model(edit: Edit, base: Path, adapter: Path, source: Path | None = None) -> Make:
    """Make a case of a model, edited, that is said to be the merge of an adapter; from the base or another model."""

    def make(parent: Path) -> Bundle:
        model = copied(source or base, parent, "merged-model")
        edit(model)
        return Bundle(model, merged_from=(base, adapter))

    return make
