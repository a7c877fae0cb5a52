"""The rows of new tokens exploded in training."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("row_health", "<fig>", "adapter", adapter="tokens")


def make(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        name = next(one for one in tensors if "embed_tokens" in one)
        tensors[name] *= 1000
