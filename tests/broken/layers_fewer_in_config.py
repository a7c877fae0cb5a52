"""config.json of a smaller sibling: the last layers are left aside."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("weights_complete", "layers.3")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config["text_config"]["num_hidden_layers"] = 3
        config["text_config"]["layer_types"].pop()
