"""Kernels whose colours resemble one another and positions that run smoothly: moved is told from trained."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from service.checkpoint.rearrangement import rearrangement
from service.checkpoint.weights import WeightFiles
from service.domain.facts import Rearrangement

SIDE, WIDTH = 14, 48
TABLE, KERNEL, NORM = "position_embedding.weight", "patch_embedding.weight", "norm.weight"


def noise(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def smooth_table() -> torch.Tensor:
    """Rows that are nearly their neighbours', and share a large part: cosines of neighbours are above 0.99."""
    places = torch.arange(SIDE * SIDE)
    across, down = (places % SIDE)[:, None] / SIDE, (places // SIDE)[:, None] / SIDE
    waves = torch.arange(1, WIDTH // 4 + 1) * 0.25
    parts = [torch.sin(across * waves), torch.cos(across * waves), torch.sin(down * waves), torch.cos(down * waves)]
    return torch.cat(parts, 1) + 2.0


def kernel(own: float) -> torch.Tensor:
    """Colours that share most of their values."""
    return noise((32, 1, 14, 14), 1) + own * noise((32, 3, 14, 14), 2)


def compared(old: torch.Tensor, new: torch.Tensor, name: str, to: Path) -> Rearrangement | None:
    for place, one in (("old", old), ("new", new)):
        save_file({name: one.contiguous()}, to / f"{place}.safetensors")
    before, after = (WeightFiles([to / f"{place}.safetensors"]) for place in ("old", "new"))
    return rearrangement(before, name, after, name)


@pytest.mark.parametrize("trained", [0.0, 0.002])
@pytest.mark.parametrize("step", [1, -3, SIDE])
def test_rows_of_a_smooth_table_that_moved_are_found(step: int, trained: float, tmp_path: Path) -> None:
    table = smooth_table()
    found = compared(table, table.roll(step, 0) + trained * noise(table.shape, 3), TABLE, tmp_path)
    assert found is not None
    assert (found.kind, f"by {-step}" in found.shown) == ("positions", True)


@pytest.mark.parametrize("trained", [0.001, 0.01, 0.05, 0.2, 1.0])
@pytest.mark.parametrize("seed", [3, 4])
def test_a_smooth_table_that_was_trained_is_not(trained: float, seed: int, tmp_path: Path) -> None:
    table = smooth_table()
    assert compared(table, table + trained * noise(table.shape, seed), TABLE, tmp_path) is None
    assert compared(table, table * 1.3 - 0.2, TABLE, tmp_path) is None


@pytest.mark.parametrize("own", [0.05, 0.3, 1.0])
def test_colours_that_changed_places_are_found_and_trained_ones_are_not(own: float, tmp_path: Path) -> None:
    one = kernel(own)
    found = compared(one, one.flip(1) + 0.2 * own * noise(one.shape, 4), KERNEL, tmp_path)
    assert found is not None
    assert (found.kind, "[2, 1, 0]" in found.shown) == ("colours", True)
    for trained in (0.01, 0.3, 2.0):
        assert compared(one, one + trained * noise(one.shape, 5), KERNEL, tmp_path) is None


def test_colours_that_are_one_and_the_same_cannot_change_places(tmp_path: Path) -> None:
    one = kernel(0.0)
    assert compared(one, one.flip(1) + 0.01 * noise(one.shape, 4), KERNEL, tmp_path) is None


@pytest.mark.parametrize("mean", [0.0, 1.0])
def test_turned_signs_are_found_and_trained_norms_are_not(mean: float, tmp_path: Path) -> None:
    one = mean + 0.3 * noise((64,), 6)
    found = compared(one, -one + 0.02 * noise((64,), 7), NORM, tmp_path)
    assert found is not None
    assert found.kind == "signs"
    for trained in (0.05, 0.5, 5.0):
        assert compared(one, one + trained * noise((64,), 8), NORM, tmp_path) is None
    assert compared(torch.zeros(64), 0.01 * noise((64,), 9), NORM, tmp_path) is None
