"""A named token that ordinary text holds: loading cuts it out of every word."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("tokenizer_faithful", "strings")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "tokenizer_config.json") as config:
        config["extra_special_tokens"]["answer_token"] = "e"
