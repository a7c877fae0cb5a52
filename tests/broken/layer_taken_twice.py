"""A script that copies layers took one of them twice."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("inner_weights", "layers.2 those of model.language_model.layers.1")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if ".language_model.layers.1." in one]:
            tensors[name.replace("layers.1.", "layers.2.")] = tensors[name].clone()
