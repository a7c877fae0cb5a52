"""No class and no code fits the model type."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("model_config", "minicpmv9")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config["model_type"] = "minicpmv9"
