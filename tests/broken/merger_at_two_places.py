"""The inner merger's place was changed in one of two places."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("model_config", "insert_layer_id")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config["insert_layer_id"] = 2
