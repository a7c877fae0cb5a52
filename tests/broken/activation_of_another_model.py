"""The language part is said to have the activation of another model."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("model_config", "text_config.hidden_act is gelu")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config["text_config"]["hidden_act"] = "gelu"
