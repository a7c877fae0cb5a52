"""Training diverged: one product reaches thousands."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("adapter_lineage", "whose product reaches", "adapter")


def make(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if "lora_B" in one]:
            tensors[name] *= 3e4
