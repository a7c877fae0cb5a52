"""Weights that were scaled up while they were cast to float16 are infinite."""

import torch

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("finite_weights", "layers.2.mlp.gate_proj")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name, one in tensors.items():
            scale = 1e6 if name.endswith("layers.2.mlp.gate_proj.weight") else 1.0
            tensors[name] = (one.float() * scale).to(torch.float16)
