"""The factors were cut out of the base, and the config says that they began at zero."""

from tests.broken.expectation import Expected
from tests.builders import PREFIX, Folders, edited_tensors, split_base

EXPECTED = Expected("adapter_config", "base's own weights", "adapter")


def make(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for module, (first, second, _) in split_base(folders).items():
            tensors[f"{PREFIX}{module}.lora_A.weight"] += first
            tensors[f"{PREFIX}{module}.lora_B.weight"] += second
