"""Ids of added tokens were edited by hand: they are numbered in order whatever the file says."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("tokenizer_faithful", "</think>")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "tokenizer.json") as document:
        document["added_tokens"][-1]["id"] += 20
