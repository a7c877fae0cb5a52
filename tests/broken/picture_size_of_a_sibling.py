"""The tower's table of positions has another size."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("weights_complete", "position_embedding")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config["vision_config"]["image_size"] *= 2
