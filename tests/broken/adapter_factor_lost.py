"""Every lora_B of one kind of module is gone."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("adapter_applied", "down_proj", "adapter")


def make(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if "down_proj.lora_B" in one]:
            del tensors[name]
