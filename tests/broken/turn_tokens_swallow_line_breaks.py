"""Tokens of turns swallow the line breaks behind them, and thoughts those inside them."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("token_flags", "<|im_end|> takes '\\n'")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "tokenizer.json") as document:
        for one in document["added_tokens"]:
            one["rstrip"] = one["content"] in ("<|im_start|>", "<|im_end|>", "<think>", "</think>")
