"""The output row of an ordinary token overflowed: it wins every step, or none."""

from tests.broken.expectation import Expected
from tests.builders import HEAD, Folders, edited_tensors

EXPECTED = Expected("row_health", "id 300")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors[HEAD][300] *= 1000
