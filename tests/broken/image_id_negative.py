"""A placeholder id that is no id."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("rows_cover_ids", "audio_token_id")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config["audio_token_id"] = -1
