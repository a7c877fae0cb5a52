"""The order in which a linear attention's projection and the convolution behind it go together."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from service.checkpoint.channels import channel_orders
from service.checkpoint.weights import WeightFiles

LAYER = "layers.0.linear_attn."
NUM_KEYS, NUM_VALUES, WIDTH = 2, 4, 64
SIZES = (NUM_KEYS * WIDTH, NUM_KEYS * WIDTH, NUM_VALUES * WIDTH)
ORDER = "by 2 key heads, each with its queries, keys and values"


def likeness(folder: Path, rows: torch.Tensor, kernels: torch.Tensor) -> tuple[float, dict[str, float]]:
    """Write a layer whose rows and kernels have these lengths `(channels,)`, and return what is found."""
    draw = torch.Generator().manual_seed(1)
    tensors = {
        "in_proj_qkv.weight": rows[:, None] * torch.randn(len(rows), 32, generator=draw),
        "conv1d.weight": kernels[:, None, None] * torch.randn(len(rows), 1, 4, generator=draw).sign(),
        "A_log": torch.ones(NUM_VALUES),
        "norm.weight": torch.ones(WIDTH),
    }
    save_file({LAYER + name: one.contiguous() for name, one in tensors.items()}, folder / "model.safetensors")
    weights = WeightFiles([folder / "model.safetensors"])
    (found,) = channel_orders(weights, list(weights.tensors)).values()
    return found.likeness, dict(found.in_order)


@pytest.mark.parametrize("is_grouped", [False, True])
def test_rows_grouped_by_key_head_go_with_their_kernels_in_that_order_only(is_grouped: bool, tmp_path: Path) -> None:
    lengths = torch.randn(sum(SIZES), generator=torch.Generator().manual_seed(0)).exp()
    parts = [one.view(NUM_KEYS, -1) for one in lengths.split(SIZES)]
    own, in_order = likeness(tmp_path, torch.cat(parts, dim=1).ravel() if is_grouped else lengths, lengths)
    assert in_order.keys() == {ORDER, "by 4 key heads, each with its queries, keys and values"}
    best, other = (in_order[ORDER], own) if is_grouped else (own, in_order[ORDER])
    assert best > 0.9
    assert other < 0.5


def test_rows_of_nothing_in_common_with_their_kernels_show_no_order(tmp_path: Path) -> None:
    lengths = torch.randn(2, sum(SIZES), generator=torch.Generator().manual_seed(2)).exp()
    own, in_order = likeness(tmp_path, *lengths)
    assert max(abs(own), *map(abs, in_order.values())) < 0.2


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("in_proj_qkv.weight", ()),
        ("in_proj_qkv.weight", (sum(SIZES), 0)),
        ("conv1d.weight", ()),
        ("conv1d.weight", (sum(SIZES), 1, 0)),
    ],
)
def test_tensors_without_rows_or_values_have_no_order(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    tensors = {
        "in_proj_qkv.weight": torch.ones(sum(SIZES), 32),
        "conv1d.weight": torch.ones(sum(SIZES), 1, 4),
        "A_log": torch.ones(NUM_VALUES),
        "norm.weight": torch.ones(WIDTH),
        name: torch.ones(shape),
    }
    save_file({LAYER + one: value for one, value in tensors.items()}, tmp_path / "model.safetensors")
    weights = WeightFiles([tmp_path / "model.safetensors"])
    assert channel_orders(weights, list(weights.tensors)) == {}
