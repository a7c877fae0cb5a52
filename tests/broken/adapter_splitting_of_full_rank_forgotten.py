"""Factors that PiSSA cut out have nearly the rank of the matrices, and an update of their own besides."""

from tests.broken.expectation import Expected
from tests.builders import Folders, add_splitting

EXPECTED = Expected("adapter_config", "init_lora_weights", "adapter", adapter="official")


def make(folders: Folders) -> None:
    add_splitting(folders, rank=40)
