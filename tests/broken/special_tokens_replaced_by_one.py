"""A trainer added the end of a turn to the special tokens, and replaced all others by it."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("special_ids", "image_token")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "tokenizer_config.json") as config:
        config["extra_special_tokens"] = ["<|im_end|>"]
