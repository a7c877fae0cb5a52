"""One layer of the adapter is a layer that the base does not have."""

from tests.broken.expectation import Expected
from tests.builders import Folders, rename_tensors

EXPECTED = Expected("adapter_keys", "layers.9", "adapter")


def make(folders: Folders) -> None:
    rename_tensors(folders.adapter_weights, lambda name: name.replace("layers.1.", "layers.9."))
