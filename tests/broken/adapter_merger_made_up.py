"""The merger was made up at random when the model was loaded for training."""

import torch

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("saved_modules", "merger", "adapter", adapter="official")


def make(folders: Folders) -> None:
    generator = torch.Generator().manual_seed(0)
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if ".merger.mlp" in one and tensors[one].dim() == 2]:
            tensors[name] = (0.02 * torch.randn(tensors[name].shape, generator=generator)).to(tensors[name].dtype)
