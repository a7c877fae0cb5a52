"""Two tokens in every prompt share one row: both are still as they were initialised."""

from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, Folders, edited_tensors, token_id

EXPECTED = Expected("trained_rows", "<think>")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        rows = tensors[EMBEDDING]
        rows[token_id(folders.base, "<think>")] = rows[token_id(folders.base, "</think>")]
