"""Biases were trained, but config.json asks for a model without."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("weights_complete", "q_proj.bias")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if one.endswith("self_attn.q_proj.weight") and "language" in one]:
            tensors[name.replace(".weight", ".bias")] = tensors[name][:, 0].clone()
