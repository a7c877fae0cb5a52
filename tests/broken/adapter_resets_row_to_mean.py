"""The saved matrix holds the mean of all rows where the base had a trained one."""

from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, PREFIX, Folders, edited_tensors, token_id

EXPECTED = Expected("trained_rows", "<|im_start|>", "adapter", adapter="official")


def make(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        rows = tensors[PREFIX + EMBEDDING].float()
        row = token_id(folders.base, "<|im_start|>")
        tensors[PREFIX + EMBEDDING][row] = ((rows.sum(0) - rows[row]) / (len(rows) - 1)).to(tensors[PREFIX + EMBEDDING])
