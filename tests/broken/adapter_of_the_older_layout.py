"""Keys as transformers 4 named the modules; PEFT's own loader maps them for some classes, servers for none."""

from tests.broken.expectation import Expected
from tests.builders import Folders, rename_tensors

EXPECTED = Expected("adapter_keys", "language_model.model", "adapter")


def make(folders: Folders) -> None:
    rename_tensors(
        folders.adapter_weights, lambda name: name.replace(".model.language_model.", ".language_model.model.")
    )
