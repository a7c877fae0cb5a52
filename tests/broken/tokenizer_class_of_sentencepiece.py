"""The tokenizer works on bytes, but its config names the class of SentencePiece models."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("tokenizer_faithful", "LlamaTokenizerFast", severity="warning")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "tokenizer_config.json") as config:
        config["tokenizer_class"] = "LlamaTokenizerFast"
