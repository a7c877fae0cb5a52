"""Nothing says what ends an answer."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("stop_set", "eos_token_id")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "generation_config.json") as config:
        del config["eos_token_id"]
    with edited_json(folders.base / "config.json") as config:
        del config["text_config"]["eos_token_id"]
