"""Weights of an input that is always zero are a thousand times the others, which 8 bits round away beside them."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("quantization", "weights of 8 bits", stage="int8")
UNIT = 0


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if ".language_model." in one and one.endswith("mlp.up_proj.weight")]:
            tensors[name][UNIT] = 0
            down = tensors[name.replace("up_proj", "down_proj")]
            down[:, UNIT] = 1000 * down.abs().amax(1)
