"""A trainer took DoRA's magnitudes from layers as they are built, before it loaded the base."""

import torch

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors, make_dora

EXPECTED = Expected("finite_weights", "nothing to do with the lengths", "adapter")


def make(folders: Folders) -> None:
    make_dora(folders, lambda weight, update: weight + update)
    generator = torch.Generator().manual_seed(7)
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if "magnitude" in one]:
            fresh = torch.nn.init.kaiming_uniform_(torch.empty(len(tensors[name]), 128), 5**0.5, generator=generator)
            tensors[name] = fresh.norm(dim=1)
