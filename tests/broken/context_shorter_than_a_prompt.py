"""Somebody meant 32k: the context is shorter than a question about the smallest picture."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("model_config", "text_config.max_position_embeddings is 32")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config["text_config"]["max_position_embeddings"] = 32
