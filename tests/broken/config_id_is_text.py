"""An id that an editor turned into a string."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("files", "image_token_id")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config["image_token_id"] = str(config["image_token_id"])
