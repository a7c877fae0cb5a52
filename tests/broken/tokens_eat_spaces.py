"""Every token of the prompt swallows the white space around it."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("token_flags", "<|im_start|>", severity="warning")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "tokenizer.json") as document:
        for one in document["added_tokens"]:
            if one["content"] == "<|im_start|>":
                one["rstrip"] = True
