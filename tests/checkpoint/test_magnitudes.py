"""DoRA's magnitudes beside the lengths of the base's rows."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from service.checkpoint.magnitudes import magnitude_facts
from service.checkpoint.weights import WeightFiles
from service.domain.facts import MagnitudeFacts

MODULE = "layers.0.q_proj"
MAGNITUDES, FIRST, SECOND = (f"{MODULE}.{one}" for one in ("lora_magnitude_vector", "lora_A.weight", "lora_B.weight"))
NUM_ROWS, WIDTH = 256, 64


def found(folder: Path, spread: float, moved: float, prefix: str = "") -> MagnitudeFacts | None:
    """Compare a base whose rows' lengths differ by so much with magnitudes that training moved by so much."""
    draw = torch.Generator().manual_seed(0)
    lengths = torch.exp(spread * torch.randn(NUM_ROWS, generator=draw))
    rows = torch.nn.functional.normalize(torch.randn(NUM_ROWS, WIDTH, generator=draw), dim=1) * lengths[:, None]
    magnitudes = lengths * torch.exp(moved * torch.randn(NUM_ROWS, generator=draw))
    factors = {FIRST: torch.ones(4, WIDTH), SECOND: torch.ones(NUM_ROWS, 4)}
    save_file({f"{prefix}{MODULE}.weight": rows}, folder / "base.safetensors")
    save_file({MAGNITUDES: magnitudes, **factors}, folder / "adapter.safetensors")
    base, adapter = (WeightFiles([folder / f"{one}.safetensors"]) for one in ("base", "adapter"))
    return magnitude_facts(adapter, {one: one for one in adapter.tensors}, base).get(MODULE)


@pytest.mark.parametrize("moved", [0.01, 0.05])
def test_trained_magnitudes_go_with_the_lengths_that_they_began_as(moved: float, tmp_path: Path) -> None:
    facts = found(tmp_path, 0.1, moved)
    assert facts is not None
    assert facts.likeness > 0.85
    assert facts.factor < 1.1


def test_a_base_that_was_saved_with_another_prefix_is_compared_alike(tmp_path: Path) -> None:
    assert found(tmp_path, 0.1, 0.05, "language_model.") == found(tmp_path, 0.1, 0.05)


def test_rows_of_nearly_one_length_show_nothing(tmp_path: Path) -> None:
    assert found(tmp_path, 0.03, 0.15) is None
