"""The saved matrix is off by one id against the base's."""

from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, PREFIX, Folders, edited_tensors

EXPECTED = Expected("row_health", "<|im_end|>", "adapter", adapter="official")


def make(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        tensors[PREFIX + EMBEDDING] = tensors[PREFIX + EMBEDDING].roll(-1, 0)
