"""Input and output matrix have different numbers of rows."""

from tests.broken.expectation import Expected
from tests.builders import HEAD, Folders, edited_tensors

EXPECTED = Expected("config_rows", "lm_head")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors[HEAD] = tensors[HEAD][:-8]
