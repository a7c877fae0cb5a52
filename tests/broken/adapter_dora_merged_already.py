"""The base is the merge of an adapter that is DoRA: its rows have the lengths that the magnitudes say."""

from tests.broken.expectation import Expected
from tests.builders import Folders, make_dora, write_update

EXPECTED = Expected("adapter_lineage", "merged into this base already", "adapter", adapter="official")


def make(folders: Folders) -> None:
    make_dora(folders, lambda weight, update: weight + update)
    write_update(folders)
