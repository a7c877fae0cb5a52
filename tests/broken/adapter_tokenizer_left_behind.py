"""Rows of new tokens were trained and saved, but the tokenizer that names them was not copied along."""

from tests.broken.expectation import Expected
from tests.builders import TOKENIZER_FILES, Folders

EXPECTED = Expected("adapter_lineage", "761", "adapter", adapter="tokens")


def make(folders: Folders) -> None:
    for name in TOKENIZER_FILES:
        (folders.adapter / name).unlink()
