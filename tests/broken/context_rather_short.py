"""The context has room for a question about a picture and for next to no answer."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("model_config", "a context of 128 tokens", severity="warning")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config["text_config"]["max_position_embeddings"] = 128
