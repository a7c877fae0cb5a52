"""An adapter ships an added_tokens.json from before a token was taken out."""

from tests.broken.expectation import Expected
from tests.builders import Folders, read_json, write_json

EXPECTED = Expected("tokenizer_faithful", "added_tokens.json", "adapter", adapter="tokens")


def make(folders: Folders) -> None:
    added = read_json(folders.adapter / "tokenizer.json")["added_tokens"]
    write_json(folders.adapter / "added_tokens.json", {one["content"]: one["id"] + 3 for one in added})
