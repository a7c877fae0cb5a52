"""Two new tokens changed places in tokenizer.json; added_tokens.json still has the ids of the training."""

from tests.broken.expectation import Expected
from tests.builders import Folders, read_json, swap_last_tokens, write_json

EXPECTED = Expected("tokenizer_faithful", "added_tokens.json", "adapter", adapter="tokens")


def make(folders: Folders) -> None:
    added = {one["content"]: one["id"] for one in read_json(folders.adapter / "tokenizer.json")["added_tokens"]}
    write_json(folders.adapter / "added_tokens.json", added)
    swap_last_tokens(folders.adapter)
