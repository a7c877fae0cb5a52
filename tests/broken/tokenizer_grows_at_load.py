"""eos_token is a token that tokenizer.json lacks: loading appends it with a new id."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("tokenizer_faithful", "<|eot_id|>")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "tokenizer_config.json") as config:
        config["eos_token"] = "<|eot_id|>"
