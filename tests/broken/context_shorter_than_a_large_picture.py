"""Pictures are cut into more slices than the context has room for."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("model_config", "one large picture takes", severity="warning")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config["text_config"]["max_position_embeddings"] = 400
    with edited_json(folders.base / "processor_config.json") as settings:
        settings["image_processor"]["max_slice_nums"] = 36
