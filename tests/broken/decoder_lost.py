"""The decoder is gone: answers show bytes as letters."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("tokenizer_sound", "to blame is the lack of a ByteLevel decoder (decoder: none)")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "tokenizer.json") as document:
        document["decoder"] = None
