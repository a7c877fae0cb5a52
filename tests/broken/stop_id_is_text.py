"""A piece of ordinary text is among the stop ids."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json, read_json

EXPECTED = Expected("stop_set", "stop id")


def make(folders: Folders) -> None:
    ordinary = read_json(folders.base / "tokenizer.json")["model"]["vocab"]
    with edited_json(folders.base / "generation_config.json") as config:
        config["eos_token_id"].append(max(ordinary.values()))
