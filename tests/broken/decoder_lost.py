"""The decoder is gone: answers show bytes as letters."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("tokenizer_sound", "do not survive")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "tokenizer.json") as document:
        document["decoder"] = None
