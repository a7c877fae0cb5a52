"""config.json asks for a second round of merging, which nobody trained."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("weights_complete", "merger.mlp.1")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config["merger_times"] = 2
