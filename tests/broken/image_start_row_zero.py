"""The token that opens every picture has a row of zeros; the template does not write it, the processor does."""

from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, Folders, edited_tensors, token_id

EXPECTED = Expected("trained_rows", "<image>")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        row = token_id(folders.base, "<image>")
        tensors[EMBEDDING][row] = 0
