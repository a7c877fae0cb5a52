"""config.json and tokenizer disagree about the placeholder of pictures."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json, token_id

EXPECTED = Expected("special_ids", "image_token")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config["image_token_id"] = token_id(folders.base, "<image>")
