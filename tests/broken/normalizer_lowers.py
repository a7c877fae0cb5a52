"""A normalizer of another model makes everything lower case."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("tokenizer_sound", "to blame is normalizer Lowercase")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "tokenizer.json") as document:
        document["normalizer"] = {"type": "Lowercase"}
