"""The folder has no tokenizer.json, and no other file that a tokenizer could be made of."""

from tests.broken.expectation import Expected
from tests.builders import Folders

EXPECTED = Expected("files", "tokenizer.json")


def make(folders: Folders) -> None:
    (folders.base / "tokenizer.json").unlink()
