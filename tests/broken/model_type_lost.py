"""config.json names no kind of model."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("model_config", "no model_type")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        del config["model_type"]
