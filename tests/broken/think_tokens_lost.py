"""The tokenizer was saved without the tokens of thoughts, which the template goes on writing."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("chat_template", "<think>")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "tokenizer.json") as document:
        document["added_tokens"] = [one for one in document["added_tokens"] if "think" not in one["content"]]
