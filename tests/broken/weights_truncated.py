"""A weights file whose upload broke off."""

from tests.broken.expectation import Expected
from tests.builders import Folders

EXPECTED = Expected("files", "model.safetensors")


def make(folders: Folders) -> None:
    data = folders.base_weights.read_bytes()
    folders.base_weights.write_bytes(data[: len(data) // 2])
