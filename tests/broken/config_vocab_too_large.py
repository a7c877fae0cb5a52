"""The tokenizer was resized in config.json, the matrices were not."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("config_rows", "embed_tokens")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config["text_config"]["vocab_size"] += 64
