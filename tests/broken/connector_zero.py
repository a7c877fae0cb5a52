"""The matrices that carry pictures into the language model were never filled."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("finite_weights", "model.merger.mlp.0.linear_1.weight")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if ".merger.mlp." in one and "linear" in one]:
            tensors[name] *= 0
