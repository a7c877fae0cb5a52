"""The processor's file names classes and nothing else."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("picture_settings", "image_processor")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "processor_config.json") as config:
        del config["image_processor"]
