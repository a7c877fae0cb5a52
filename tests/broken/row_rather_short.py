"""One input row is fifty times shorter than it was trained to be."""

from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, Folders, edited_tensors, token_id

EXPECTED = Expected("row_health", "</image>", severity="warning")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors[EMBEDDING][token_id(folders.base, "</image>")] /= 50
