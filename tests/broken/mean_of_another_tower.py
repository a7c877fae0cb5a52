"""Pixels are centred as CLIP wants them."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("picture_settings", "image_mean")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "processor_config.json") as config:
        config["image_processor"]["image_mean"] = [0.48145466, 0.4578275, 0.40821073]
