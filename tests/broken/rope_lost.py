"""The export dropped the rotary settings."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("model_config", "rope_parameters")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        del config["text_config"]["rope_parameters"]
