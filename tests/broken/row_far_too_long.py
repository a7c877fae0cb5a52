"""One input row is a thousand times as long as the others: a scale was applied to it alone."""

from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, Folders, edited_tensors, token_id

EXPECTED = Expected("row_health", "<|im_start|>")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors[EMBEDDING][token_id(folders.base, "<|im_start|>")] *= 1000
