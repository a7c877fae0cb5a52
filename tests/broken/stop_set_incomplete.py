"""A fresh generation_config.json lost the end of a turn."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json, token_id

EXPECTED = Expected("stop_set", "<|im_end|>")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "generation_config.json") as config:
        config["eos_token_id"] = token_id(folders.base, "<|endoftext|>")
