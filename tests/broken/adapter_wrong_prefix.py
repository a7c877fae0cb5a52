"""Keys of the remote-code layout: PEFT finds no module for them and says nothing."""

from tests.broken.expectation import Expected
from tests.builders import Folders, rename_tensors

EXPECTED = Expected("adapter_keys", "llm", "adapter")


def make(folders: Folders) -> None:
    rename_tensors(folders.adapter_weights, lambda name: name.replace("model.language_model.", "llm.model."))
