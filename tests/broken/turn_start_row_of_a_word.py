"""The row of the start of a turn is a copy of an ordinary token's."""

from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, Folders, edited_tensors, token_id

EXPECTED = Expected("trained_rows", "<|im_start|>")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors[EMBEDDING][token_id(folders.base, "<|im_start|>")] = tensors[EMBEDDING][300]
