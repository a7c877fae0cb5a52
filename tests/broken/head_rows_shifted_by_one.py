"""The output matrix is off by a single id."""

from tests.broken.expectation import Expected
from tests.builders import HEAD, Folders, edited_tensors

EXPECTED = Expected("row_health", "lm_head.weight")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors[HEAD] = tensors[HEAD].roll(1, 0)
