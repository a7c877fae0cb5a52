"""Both halves of every update are there twice, with opposite signs: the adapter does nothing."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("adapter_effect", "logits", "adapter", stage="loaded")


def make(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name, one in tensors.items():
            half = one.shape[0 if "lora_A" in name else 1] // 2
            if "lora_A" in name:
                one[half:] = one[:half]
            elif "lora_B" in name:
                one[:, half:] = -one[:, :half]
