"""One of the names that the processor needs is gone."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("special_ids", "slice_start_token")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "tokenizer_config.json") as config:
        del config["extra_special_tokens"]["slice_start_token"]
