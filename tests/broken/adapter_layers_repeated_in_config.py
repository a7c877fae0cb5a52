"""The config repeats layers, and the file has factors for the base's own."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("adapter_config", "layer_replication", "adapter")


def make(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["layer_replication"] = [[0, 2], [1, 4]]
