"""Videos use the placeholder of pictures."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("special_ids", "video_token")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config["video_token_id"] = config["image_token_id"]
