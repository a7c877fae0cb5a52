"""One layer of the language model was made up by the loader: its shard had other names."""

import torch

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("inner_weights", "model.language_model.layers.3")


def make(folders: Folders) -> None:
    torch.manual_seed(0)
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if ".language_model.layers.3." in one]:
            shape = tensors[name].shape
            tensors[name] = 0.02 * torch.randn(shape) if len(shape) > 1 else torch.zeros(shape)
