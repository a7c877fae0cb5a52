"""A loader did not find the merger under its names, made it up, and the model was saved so."""

import torch

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("inner_weights", "model.merger")


def make(folders: Folders) -> None:
    torch.manual_seed(0)
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if one.startswith("model.merger.")]:
            shape, is_norm = tensors[name].shape, "norm.weight" in name
            tensors[name] = 0.02 * torch.randn(shape) if len(shape) > 1 else torch.full(shape, float(is_norm))
