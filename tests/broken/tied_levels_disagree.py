"""The language part of the config says tied, its top says not, and two matrices are stored."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("tied_embeddings", "text_config")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config["text_config"]["tie_word_embeddings"] = True
