"""The processor cuts other patches than the model takes."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("picture_settings", "patches of 16")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "processor_config.json") as document:
        document["image_processor"]["patch_size"] = 16
