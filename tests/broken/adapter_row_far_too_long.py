"""One row of the saved matrix was scaled."""

from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, PREFIX, Folders, edited_tensors, token_id

EXPECTED = Expected("row_health", "<image>", "adapter", adapter="official")


def make(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        tensors[PREFIX + EMBEDDING][token_id(folders.base, "<image>")] *= 1000
