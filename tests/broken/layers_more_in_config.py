"""config.json of a larger sibling: layers that nobody trained."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("weights_complete", "20 parameter(s)")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        text = config["text_config"]
        text["num_hidden_layers"] += 1
        text["layer_types"].insert(0, "linear_attention")
