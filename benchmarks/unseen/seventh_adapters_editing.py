"""What the cases of this wave share beyond the earlier editing modules."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks.unseen.case import Bundle
from benchmarks.unseen.fourth_editing import ADAPTER_CONFIG, ADAPTERS_4_5, BASE_4_5
from benchmarks.unseen.third_4_6_editing import (
    ADAPTERS,
    BASE,
    MODEL_WEIGHTS,
    Edit,
    Make,
    Tensors,
    copied,
    merge_into,
    read_json,
    read_tensors,
    target_of,
    write_json,
    write_tensors,
)


def merge_46(change: Callable[[Tensors], None], adapter_edit: Edit | None = None) -> Make:
    """Make a case of a model computed from the base of 4.6, said to be the merge of the adapter `json`."""

    def make(parent: Path) -> Bundle:
        model = copied(BASE, parent, "tuned-json")
        adapter = ADAPTERS / "json"
        if adapter_edit is not None:
            adapter = copied(adapter, parent)
            adapter_edit(adapter)
        tensors = read_tensors(model)
        change(tensors)
        write_tensors(model, tensors)
        return Bundle(model, merged_from=(BASE, adapter))

    return make


def merge_45(change: Callable[[Tensors], None], edit: Edit | None = None) -> Make:
    """Make a case of a model computed from the base of 4.5, said to be the merge of the adapter `official`."""

    def make(parent: Path) -> Bundle:
        model = copied(BASE_4_5, parent, "tuned-official")
        tensors = read_tensors(model)
        change(tensors)
        write_tensors(model, tensors)
        if edit is not None:
            edit(model)
        return Bundle(model, merged_from=(BASE_4_5, ADAPTERS_4_5 / "official"))

    return make


def whole_merge_45(tensors: Tensors, added: dict[str, torch.Tensor], saved: Tensors) -> None:
    """Add updates, and put in the modules that the adapter saved whole."""
    merge_into(tensors, added)
    tensors.update(saved)


def to_dora(adapter: Path, magnitude: Callable[[torch.Tensor], torch.Tensor] | None = None) -> None:
    """Write the adapter `json` as DoRA: magnitudes are the norms of the tuned rows, or what `magnitude` makes."""
    config, tensors = read_json(adapter / ADAPTER_CONFIG), read_tensors(adapter)
    weights = load_file(BASE / MODEL_WEIGHTS)
    scale = config["lora_alpha"] / config["r"]
    for first in [name for name in tensors if "lora_A" in name]:
        update = scale * tensors[first.replace("lora_A", "lora_B")].float() @ tensors[first].float()
        tuned = weights[target_of(first)].float() + update
        norms = tuned.norm(dim=1) if magnitude is None else magnitude(tuned)
        tensors[first.replace("lora_A.weight", "lora_magnitude_vector.weight")] = norms
    write_tensors(adapter, tensors)
    write_json(adapter / ADAPTER_CONFIG, {**config, "use_dora": True})


def plain_noise(shape: torch.Size, seed: int) -> torch.Tensor:
    """Return normal noise in float32."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
