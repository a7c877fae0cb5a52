"""The tower is said to have the activation of another tower."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("model_config", "vision_config.hidden_act is relu")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config["vision_config"]["hidden_act"] = "relu"
