"""The merges were cut off when the tokenizer was converted."""

from tests.broken.expectation import Expected
from tests.builders import Folders, copy_tokenizer, edited_json

EXPECTED = Expected("tokenizer_sound", "cannot be reached", "adapter")


def make(folders: Folders) -> None:
    copy_tokenizer(folders.base, folders.adapter)
    with edited_json(folders.adapter / "tokenizer.json") as document:
        document["model"]["merges"] = document["model"]["merges"][:100]
