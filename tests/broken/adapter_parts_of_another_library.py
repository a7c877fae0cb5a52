"""The factors are called as another library calls them."""

from tests.broken.expectation import Expected
from tests.builders import Folders, rename_tensors

EXPECTED = Expected("adapter_keys", "lora_down", "adapter")


def make(folders: Folders) -> None:
    rename_tensors(
        folders.adapter_weights, lambda name: name.replace(".lora_A.", ".lora_down.").replace(".lora_B.", ".lora_up.")
    )
