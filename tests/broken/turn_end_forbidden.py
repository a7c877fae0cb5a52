"""generation_config.json forbids the token that ends answers."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json, token_id

EXPECTED = Expected("stop_set", "<|im_end|>", severity="warning")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "generation_config.json") as config:
        config["suppress_tokens"] = [token_id(folders.base, "<|im_end|>")]
