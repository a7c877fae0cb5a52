"""Only pickle weights: opening them would run code."""

from tests.broken.expectation import Expected
from tests.builders import Folders

EXPECTED = Expected("files", "pytorch_model.bin")


def make(folders: Folders) -> None:
    folders.base_weights.rename(folders.base / "pytorch_model.bin")
