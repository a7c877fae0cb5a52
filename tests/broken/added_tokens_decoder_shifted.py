"""A slow tokenizer wrote the ids of added tokens one too high."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json, read_json

EXPECTED = Expected("tokenizer_faithful", "added_tokens_decoder")


def make(folders: Folders) -> None:
    added = read_json(folders.base / "tokenizer.json")["added_tokens"]
    with edited_json(folders.base / "tokenizer_config.json") as config:
        config["added_tokens_decoder"] = {str(one["id"] + 1): {"content": one["content"]} for one in added}
