"""Somebody merged the adapter with a weight of 0.6, and mounts it on the result."""

from tests.broken.expectation import Expected
from tests.builders import Folders, write_update

EXPECTED = Expected("adapter_lineage", "median share of 0.", "adapter", adapter="official")


def make(folders: Folders) -> None:
    write_update(folders, times=0.6)
