"""A kind of model that nobody knows."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("model_config", "minicpm_v4_6")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config["model_type"] = "minicpm_v4_6"
