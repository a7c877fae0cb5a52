"""Only pickle weights: opening them would run code."""

from tests.broken.expectation import Expected
from tests.builders import Folders

EXPECTED = Expected("adapter_applied", "adapter_model.bin", "adapter")


def make(folders: Folders) -> None:
    folders.adapter_weights.rename(folders.adapter / "adapter_model.bin")
