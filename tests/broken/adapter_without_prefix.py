"""A trainer saved the bare model, so that PEFT knows none of the names."""

from tests.broken.expectation import Expected
from tests.builders import PREFIX, Folders, rename_tensors

EXPECTED = Expected("adapter_keys", "without base_model.model.", "adapter")


def make(folders: Folders) -> None:
    rename_tensors(folders.adapter_weights, lambda name: name.removeprefix(PREFIX))
