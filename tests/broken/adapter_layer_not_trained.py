"""A layer's factors are as training found them, those of all others are trained: a shard was lost."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("finite_weights", "layers.3", "adapter", "warning")


def make(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if ".layers.3." in one and ".lora_B." in one]:
            tensors[name].zero_()
