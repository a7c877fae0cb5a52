"""A type of weights that there is not."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("model_config", "bfloat17")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config["dtype"] = "bfloat17"
