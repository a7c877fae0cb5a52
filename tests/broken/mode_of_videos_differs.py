"""Only the processor of videos counts otherwise."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("picture_settings", "video")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "processor_config.json") as config:
        config["video_processor"]["downsample_mode"] = "16x"
