"""The model falls back to its class's mode, the processor does not."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("picture_settings", "downsample_mode")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        del config["downsample_mode"]
