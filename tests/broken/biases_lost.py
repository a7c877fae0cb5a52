"""The tower's biases were not saved."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("weights_complete", "bias")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if "vision_tower" in one and one.endswith(".bias")]:
            del tensors[name]
