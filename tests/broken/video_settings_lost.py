"""A processor that needs settings for videos has none."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("picture_settings", "video_processor")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "processor_config.json") as config:
        del config["video_processor"]
