"""The adapter's upload broke off."""

from tests.broken.expectation import Expected
from tests.builders import Folders

EXPECTED = Expected("adapter_applied", "was cut off", "adapter")


def make(folders: Folders) -> None:
    data = folders.adapter_weights.read_bytes()
    folders.adapter_weights.write_bytes(data[: len(data) // 2])
