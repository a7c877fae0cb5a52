"""generation_config.json of a model with a larger vocabulary."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("rows_cover_ids", "generation_config.json")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "generation_config.json") as config:
        config["eos_token_id"] = [*config["eos_token_id"], 151645]
