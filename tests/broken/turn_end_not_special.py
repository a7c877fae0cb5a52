"""The token that ends turns lost its special flag: clients can type it."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("token_flags", "<|im_end|>")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "tokenizer.json") as document:
        next(one for one in document["added_tokens"] if one["content"] == "<|im_end|>")["special"] = False
