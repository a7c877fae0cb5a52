"""Two generations of files with two resolutions."""

from tests.broken.expectation import Expected
from tests.builders import Folders, read_json, write_json

EXPECTED = Expected("picture_settings", "scale_resolution", severity="warning")


def make(folders: Folders) -> None:
    document = read_json(folders.base / "processor_config.json")["image_processor"]
    write_json(folders.base / "preprocessor_config.json", {**document, "scale_resolution": 448})
