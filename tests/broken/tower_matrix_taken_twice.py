"""One matrix of a layer of the tower is that of the layer before."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("inner_weights", "encoder.layers.3 those of")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        name = next(one for one in tensors if one.endswith("encoder.layers.2.mlp.fc1.weight"))
        tensors[name.replace("layers.2.", "layers.3.")] = tensors[name].clone()
