"""The row of the end of a turn is what resizing left: the mean of all rows."""

from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, Folders, edited_tensors, token_id

EXPECTED = Expected("trained_rows", "<|im_end|>")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        rows = tensors[EMBEDDING].float()
        row = token_id(folders.base, "<|im_end|>")
        tensors[EMBEDDING][row] = (rows.sum(0) - rows[row]) / (len(rows) - 1)
