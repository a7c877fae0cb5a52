"""The tie is declared where the model class does not look, and the head is not stored."""

from tests.broken.expectation import Expected
from tests.builders import HEAD, Folders, edited_json, edited_tensors

EXPECTED = Expected("tied_embeddings", "text_config only")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        del tensors[HEAD]
    with edited_json(folders.base / "config.json") as config:
        del config["tie_word_embeddings"]
        config["text_config"]["tie_word_embeddings"] = True
