"""The processor cuts larger patches than the tower takes."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("picture_settings", "16 pixels")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "processor_config.json") as config:
        config["image_processor"]["patch_size"] = 16
