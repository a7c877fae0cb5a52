"""A merged model with the config.json of the model before resizing."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("config_rows", "lm_head")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config["text_config"]["vocab_size"] -= 8
