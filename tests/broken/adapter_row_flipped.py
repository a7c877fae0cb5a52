"""One row of the saved matrix has the wrong sign."""

from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, PREFIX, Folders, edited_tensors, token_id

EXPECTED = Expected("row_health", "<|im_start|>", "adapter", adapter="official")


def make(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        tensors[PREFIX + EMBEDDING][token_id(folders.base, "<|im_start|>")] *= -1
