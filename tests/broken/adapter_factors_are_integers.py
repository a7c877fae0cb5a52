"""The factors were quantised to integers."""

import torch

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("adapter_applied", "floating point", "adapter")


def make(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name, one in tensors.items():
            tensors[name] = (one.float() * 100).to(torch.int8)
