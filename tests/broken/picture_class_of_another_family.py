"""The picture class of another family."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("picture_settings", "Qwen2VLImageProcessor")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "processor_config.json") as config:
        config["image_processor"]["image_processor_type"] = "Qwen2VLImageProcessor"
