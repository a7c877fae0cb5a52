"""An adapter adds a Chinese word as a token, so that every text with it is read otherwise."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("tokenizer_unchanged", "红色", "adapter", "warning", adapter="tokens")


def make(folders: Folders) -> None:
    with edited_json(folders.adapter / "tokenizer.json") as document:
        token = next(one for one in document["added_tokens"] if one["content"] == "<fig>")
        token["content"] = "红色"
