"""The token that opens turns is a stop token too."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json, token_id

EXPECTED = Expected("stop_set", "<|im_start|>")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "generation_config.json") as config:
        config["eos_token_id"].append(token_id(folders.base, "<|im_start|>"))
