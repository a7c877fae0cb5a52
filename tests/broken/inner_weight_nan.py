"""A weight deep in the model is not a number."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("finite_weights", "down_proj")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors[next(one for one in tensors if one.endswith("down_proj.weight"))][0, 0] = float("nan")
