"""Tokens were added in the gap behind the vocabulary, and their rows were never trained."""

from tests.broken.expectation import Expected
from tests.builders import Folders

EXPECTED = Expected("trained_rows", "<fig>", "adapter", adapter="broken")


def make(folders: Folders) -> None:
    assert (folders.adapter / "tokenizer.json").is_file()  # the demo ships this one
