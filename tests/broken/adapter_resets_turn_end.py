"""The saved matrix lost a row that the base had trained."""

from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, PREFIX, Folders, edited_tensors, token_id

EXPECTED = Expected("trained_rows", "<|im_end|>", "adapter", adapter="official")


def make(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        tensors[PREFIX + EMBEDDING][token_id(folders.base, "<|im_end|>")] = 0
