"""The output row of the end of a turn is one that nobody ever writes."""

from tests.broken.expectation import Expected
from tests.builders import HEAD, Folders, edited_tensors, token_id

EXPECTED = Expected("trained_rows", "<|im_end|>", severity="warning")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors[HEAD][token_id(folders.base, "<|im_end|>")] = 1.02 * tensors[HEAD][800]
