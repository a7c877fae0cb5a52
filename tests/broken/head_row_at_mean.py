"""The model can read the end of a turn but was never trained to write it."""

from tests.broken.expectation import Expected
from tests.builders import HEAD, Folders, edited_tensors, token_id

EXPECTED = Expected("trained_rows", "<|im_end|>")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        rows = tensors[HEAD].float()
        row = token_id(folders.base, "<|im_end|>")
        tensors[HEAD][row] = (rows.sum(0) - rows[row]) / (len(rows) - 1)
