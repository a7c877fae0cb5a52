"""lora_A is zero where lora_B is not: the product is nothing."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("adapter_effect", "logits", "adapter", stage="loaded")


def make(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name, tensor in tensors.items():
            if "lora_A" in name:
                tensor.zero_()
