"""Pictures are cut at the scale of another tower."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("picture_settings", "scale_resolution is 448")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "processor_config.json") as config:
        for part in ("image_processor", "video_processor"):
            config[part]["scale_resolution"] = 448
