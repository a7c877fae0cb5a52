"""A few steps at a small learning rate: the factors have hardly left zero."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("adapter_lineage", "hardly left zero: lora_B", "adapter", severity="warning")


def make(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if "lora_B" in one]:
            tensors[name] = tensors[name].float() * 1e-3
