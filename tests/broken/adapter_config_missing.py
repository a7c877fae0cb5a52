"""Weights without the config that says what they are."""

from tests.broken.expectation import Expected
from tests.builders import Folders

EXPECTED = Expected("adapter_applied", "adapter_config.json", "adapter")


def make(folders: Folders) -> None:
    (folders.adapter / "adapter_config.json").unlink()
