"""The names of the opening and the closing picture marker were exchanged."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("special_ids", "</image>")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "tokenizer_config.json") as config:
        config["extra_special_tokens"] |= {"image_start_token": "</image>", "image_end_token": "<image>"}
