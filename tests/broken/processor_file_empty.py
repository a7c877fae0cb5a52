"""The processor's file is there and says nothing."""

from tests.broken.expectation import Expected
from tests.builders import Folders, write_json

EXPECTED = Expected("picture_settings", "image_processor")


def make(folders: Folders) -> None:
    write_json(folders.base / "processor_config.json", {})
