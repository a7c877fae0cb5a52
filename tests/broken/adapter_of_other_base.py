"""Trained on a base with another hidden size."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("adapter_applied", "lora_A", "adapter")


def make(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name, tensor in tensors.items():
            if "lora_A" in name:
                tensors[name] = tensor.repeat(1, 2)
