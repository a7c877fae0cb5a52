"""A distributed training saved the rows that one of its processes had, and zeros in place of the others."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("finite_weights", "lora_B", subject="adapter")


def make(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name, one in tensors.items():
            if ".lora_B." in name:
                one[: len(one) // 2] = 0
