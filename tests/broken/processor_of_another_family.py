"""The processor class of another family."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("picture_settings", "Qwen2VLProcessor")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "processor_config.json") as config:
        config["processor_class"] = "Qwen2VLProcessor"
