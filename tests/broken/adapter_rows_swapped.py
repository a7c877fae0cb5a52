"""Two rows of the saved matrix changed places."""

from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, PREFIX, Folders, edited_tensors, token_id

EXPECTED = Expected("row_health", "<|im_start|>", "adapter", adapter="official")


def make(folders: Folders) -> None:
    rows = [token_id(folders.base, "<|im_start|>"), token_id(folders.base, "<|im_end|>")]
    with edited_tensors(folders.adapter_weights) as tensors:
        tensors[PREFIX + EMBEDDING][rows] = tensors[PREFIX + EMBEDDING][rows[::-1]].clone()
