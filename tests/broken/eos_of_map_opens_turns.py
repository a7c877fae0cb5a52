"""special_tokens_map.json calls the token that opens turns the end of a text."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json, write_json

EXPECTED = Expected("stop_set", "<|im_start|>")


def make(folders: Folders) -> None:
    write_json(folders.base / "special_tokens_map.json", {"eos_token": {"content": "<|im_start|>", "lstrip": False}})
    with edited_json(folders.base / "tokenizer_config.json") as config:
        del config["eos_token"]
