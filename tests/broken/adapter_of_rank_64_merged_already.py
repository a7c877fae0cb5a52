"""The base is the merge of an official adapter, whose many directions hold much of the base besides the update."""

from tests.broken.expectation import Expected
from tests.builders import Folders, write_update

EXPECTED = Expected("adapter_lineage", "merged into this base already", "adapter", adapter="official")


def make(folders: Folders) -> None:
    write_update(folders)
