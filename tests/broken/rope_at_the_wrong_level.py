"""Rotary settings at the top, where the class does not look."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("model_config", "text_config has none")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config["rope_parameters"] = config["text_config"].pop("rope_parameters")
