"""The vocabulary was written in another order than the merges."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("tokenizer_sound", "the merges")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "tokenizer.json") as document:
        vocabulary = document["model"]["vocab"]
        made = sorted(vocabulary, key=vocabulary.__getitem__)[300:748]
        vocabulary |= dict(zip(made, [vocabulary[one] for one in reversed(made)], strict=True))
