"""An older library dropped `exclude_modules`: the tower, which was not trained, gets factors that change nothing."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("adapter_config", "vision_tower", "adapter", "warning")


def make(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["exclude_modules"] = None
