"""A re-save turned the named special tokens into a list: the processor cannot start."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("special_ids", "image_token")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "tokenizer_config.json") as config:
        config["extra_special_tokens"] = sorted(config["extra_special_tokens"].values())
