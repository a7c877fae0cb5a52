"""A model without an output matrix was loaded and saved: the loader filled in random numbers."""

import torch

from tests.broken.expectation import Expected
from tests.builders import HEAD, Folders, edited_tensors

EXPECTED = Expected("trained_rows", "lm_head.weight")


def make(folders: Folders) -> None:
    torch.manual_seed(0)
    with edited_tensors(folders.base_weights) as tensors:
        tensors[HEAD] = 0.02 * torch.randn(tensors[HEAD].shape)
