"""One matrix was missing when a model was loaded, and saved as the random numbers that took its place."""

import torch

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("inner_weights", "layers.1.mlp.up_proj was never trained")


def make(folders: Folders) -> None:
    torch.manual_seed(0)
    with edited_tensors(folders.base_weights) as tensors:
        name = next(one for one in tensors if one.endswith("language_model.layers.1.mlp.up_proj.weight"))
        tensors[name] = 0.02 * torch.randn(tensors[name].shape).to(tensors[name])
