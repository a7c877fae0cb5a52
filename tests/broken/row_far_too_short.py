"""One input row is a millionth of what it was: next to nothing is left of the token."""

from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, Folders, edited_tensors, token_id

EXPECTED = Expected("trained_rows", "<image>")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors[EMBEDDING][token_id(folders.base, "<image>")] *= 1e-6
