"""A switch against markers in users' texts was saved: the template's own markers are split as well."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("chat_template", "its split_special_tokens is true", also="tokenizer_faithful")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "tokenizer_config.json") as config:
        config["split_special_tokens"] = True
