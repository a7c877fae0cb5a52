"""Pictures are cut at one and a half times the size that config.json has."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("picture_settings", "scale_resolution is 168", severity="warning")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "processor_config.json") as document:
        document["image_processor"]["scale_resolution"] = 168
