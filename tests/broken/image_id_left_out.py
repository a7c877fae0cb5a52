"""The config leaves the placeholder id to its class, whose vocabulary is another one."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("special_ids", "image_token_id")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        del config["image_token_id"]
