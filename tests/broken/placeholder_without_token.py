"""The placeholder id of another model: it has a row, but no token."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("special_ids", "video_token_id")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "tokenizer_config.json") as config:
        config["extra_special_tokens"].pop("video_token")
    with edited_json(folders.base / "config.json") as config:
        config["video_token_id"] = config["text_config"]["vocab_size"] - 1
