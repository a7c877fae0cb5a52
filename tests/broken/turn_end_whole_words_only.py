"""The token that ends turns is found only between words, and never is."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("chat_template", "<|im_end|>")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "tokenizer.json") as document:
        next(one for one in document["added_tokens"] if one["content"] == "<|im_end|>")["single_word"] = True
