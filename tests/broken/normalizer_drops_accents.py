"""The normalizer takes the accents off letters."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("tokenizer_sound", "to blame is normalizer StripAccents")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "tokenizer.json") as document:
        document["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}]}
