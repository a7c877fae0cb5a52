"""The names still carry the wrapper of distributed training."""

from tests.broken.expectation import Expected
from tests.builders import PREFIX, Folders, rename_tensors

EXPECTED = Expected("adapter_keys", "module.model", "adapter")


def make(folders: Folders) -> None:
    rename_tensors(folders.adapter_weights, lambda name: name.replace(PREFIX, PREFIX + "module."))
