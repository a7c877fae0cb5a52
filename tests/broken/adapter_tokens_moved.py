"""A token was put before the old ones, and all ids behind it moved."""

from tests.broken.expectation import Expected
from tests.builders import Folders, copy_tokenizer, edited_json

EXPECTED = Expected("special_ids", "<|endoftext|>", "adapter")


def make(folders: Folders) -> None:
    copy_tokenizer(folders.base, folders.adapter)
    with edited_json(folders.adapter / "tokenizer.json") as document:
        first, *others = document["added_tokens"]
        start = first["id"]
        document["added_tokens"] = [*others, first]
        for place, token in enumerate(document["added_tokens"]):
            token["id"] = start + place
