"""What a tuned folder is compared with, and the lists in which edits of it register themselves.

Each edits a copy of the demo's merged folder; its origin and the adapter stay as they are shipped.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from service.demo import demo_root
from tests.builders import (
    Folders,
    edited_tensors,
)

Make = Callable[[Folders], None]
ORIGIN = demo_root() / "base"
ADAPTER = demo_root() / "adapters" / "json"
LEVELS = 16
TOWER = "model.vision_tower.embeddings."
KERNEL, POSITIONS = TOWER + "patch_embedding.weight", TOWER + "position_embedding.weight"


@dataclass(frozen=True)
class Case:
    """What must be found, and against what the folder is compared: `origin` or `merge`."""

    make: Make
    check: str
    named: str
    against: str = "origin"
    severity: str = "fatal"


BROKEN: dict[str, Case] = {}
SOUND: dict[str, tuple[str, Make]] = {}


def broken(check: str, named: str, against: str = "origin", severity: str = "fatal") -> Callable[[Make], Make]:
    def register(make: Make) -> Make:
        BROKEN[make.__name__] = Case(make, check, named, against, severity)
        return make

    return register


def sound(against: str = "origin") -> Callable[[Make], Make]:
    def register(make: Make) -> Make:
        SOUND[make.__name__] = (against, make)
        return make

    return register


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def scale_update(folders: Folders, factor: float) -> None:
    """Merge the update as often as the factor says."""
    before = weights_of(ORIGIN)
    with edited_tensors(folders.base_weights) as tensors:
        for name, one in tensors.items():
            old = before[name].float()
            tensors[name] = (old + factor * (one.float() - old)).to(one.dtype)


def to_bits(rows: torch.Tensor, bits: int) -> torch.Tensor:
    """Round as QLoRA's bases are: to 16 levels of a normal distribution in blocks of 64, or to 127 steps of a row."""
    if bits == 8:
        step = rows.abs().amax(1, keepdim=True) / 127
        return (rows / step).round() * step
    normal = torch.distributions.Normal(0.0, 1.0).icdf(torch.linspace(0.04, 0.96, LEVELS))
    blocks = rows.reshape(-1, 64)
    largest = blocks.abs().amax(1, keepdim=True)
    nearest = (blocks[:, :, None] / largest[:, :, None] - normal / normal.abs().max()).abs().argmin(2)
    return (normal[nearest] / normal.abs().max() * largest).reshape(rows.shape)


def merge_into_rounded(folders: Folders, bits: int, factor: float = 1.0) -> None:
    """Merge into the base with every matrix of its layers rounded, whether the adapter changes it or not."""
    before, after = weights_of(ORIGIN), weights_of(demo_root() / "merged")
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if ".language_model.layers." in one and one.endswith("proj.weight")]:
            old = before[name].float()
            update = exact_update(name) if not torch.equal(before[name], after[name]) else 0
            tensors[name] = (to_bits(old, bits) + factor * update).bfloat16()


def exact_update(name: str) -> torch.Tensor:
    """Multiply the factors of the demo's adapter."""
    factors = load_file(ADAPTER / "adapter_model.safetensors")
    module = f"base_model.model.{name.removesuffix('.weight')}"
    return 2 * factors[f"{module}.lora_B.weight"].float() @ factors[f"{module}.lora_A.weight"].float()


READERS = {
    "input_layernorm": ("q_proj", "k_proj", "v_proj", "in_proj_qkv", "in_proj_z", "in_proj_a", "in_proj_b"),
    "post_attention_layernorm": ("gate_proj", "up_proj"),
    "layer_norm1": ("q_proj", "k_proj", "v_proj"),
    "layer_norm2": ("fc1",),
}


def scale_norms(
    tensors: dict[str, torch.Tensor], kind: str, left_out: tuple[str, ...] = (), spread: float = 0.7
) -> None:
    """Divide norms by a scale of each channel and multiply the columns behind them, as smoothing does."""
    generator = torch.Generator().manual_seed(5)
    for name in [one for one in tensors if one.endswith(f".{kind}.weight")]:
        norm, layer = tensors[name].float(), name.removesuffix(f"{kind}.weight")
        scale = torch.exp(spread * torch.randn(norm.shape, generator=generator))
        adds_one = float("language_model" in name)  # this kind of norm multiplies by one more
        tensors[name] = ((norm + adds_one) / scale - adds_one).bfloat16()
        if (bias := f"{layer}{kind}.bias") in tensors:
            tensors[bias] = (tensors[bias].float() / scale).bfloat16()
        ends = tuple(f".{one}.weight" for one in READERS[kind] if one not in left_out)
        for matrix in [one for one in tensors if one.startswith(layer) and one.endswith(ends)]:
            tensors[matrix] = (tensors[matrix].float() * scale).bfloat16()


def order_neurons(tensors: dict[str, torch.Tensor], *parts: str) -> None:
    """Put the neurons of feed-forward layers in another order, in the matrices whose names have one of these parts."""
    generator = torch.Generator().manual_seed(7)
    for name in [one for one in tensors if one.endswith(("mlp.down_proj.weight", "mlp.fc2.weight"))]:
        mlp = name.rsplit(".", 2)[0]
        order = torch.randperm(tensors[name].shape[1], generator=generator)
        for other in [one for one in tensors if one.startswith(mlp) and any(part in one for part in parts)]:
            if other.endswith(("fc2.weight", "down_proj.weight")):
                tensors[other] = tensors[other][:, order].contiguous()
            elif not other.endswith("fc2.bias"):
                tensors[other] = tensors[other][order].contiguous()


def cut_smallest(tensors: dict[str, torch.Tensor], share: float) -> None:
    """Set so many of the language model's values to zero, the smallest of each matrix."""
    for name in [one for one in tensors if ".language_model.layers." in one and tensors[one].ndim == 2]:
        size = tensors[name].float().abs()
        tensors[name] = tensors[name] * (size > size.quantile(share))
