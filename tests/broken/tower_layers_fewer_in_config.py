"""The tower is built without its last layer."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("weights_complete", "encoder.layers.3")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config["vision_config"]["num_hidden_layers"] -= 1
