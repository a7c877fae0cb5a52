"""The tie is declared where only the text part is asked."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("tied_embeddings", "embed_tokens")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        del config["tie_word_embeddings"]
        config["text_config"]["tie_word_embeddings"] = True
