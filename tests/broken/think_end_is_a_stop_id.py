"""The end of a thought ends the answer."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json, token_id

EXPECTED = Expected("stop_set", "</think>")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "generation_config.json") as config:
        config["eos_token_id"].append(token_id(folders.base, "</think>"))
