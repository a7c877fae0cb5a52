"""ZeRO-3 saved shards of the factors: shape [0]."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("adapter_applied", "[0]", "adapter")


def make(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name, tensor in tensors.items():
            tensors[name] = tensor.new_zeros(0)
