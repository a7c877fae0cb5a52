"""An adapter was saved with a token that swallows the line break behind it."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("token_flags", "<|im_start|>", "adapter", adapter="official")


def make(folders: Folders) -> None:
    with edited_json(folders.adapter / "tokenizer.json") as document:
        next(one for one in document["added_tokens"] if one["content"] == "<|im_start|>")["rstrip"] = True
