"""The processor is named after another model."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("picture_settings", "Qwen2VLProcessor")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "processor_config.json") as document:
        document["processor_class"] = "Qwen2VLProcessor"
