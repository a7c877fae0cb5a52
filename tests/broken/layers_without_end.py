"""A config that asks for more layers than memory holds."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("model_config", "num_hidden_layers")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config["vision_config"]["num_hidden_layers"] = 10**9
