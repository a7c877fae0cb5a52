"""ZeRO-3 saved flat shards of the factors."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("adapter_applied", "two dimensions", "adapter")


def make(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name, tensor in tensors.items():
            tensors[name] = tensor.flatten()[:7]
