"""config.json of a wider sibling: no inner matrix fits."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("weights_complete", "down_proj")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config["text_config"]["intermediate_size"] *= 2
