"""A token that only large pictures need has a row of zeros."""

from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, Folders, edited_tensors, token_id

EXPECTED = Expected("trained_rows", "<slice>", severity="warning")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        row = token_id(folders.base, "<slice>")
        tensors[EMBEDDING][row] = 0
