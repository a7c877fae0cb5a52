"""The tokenizer was saved while a trainer filled batches up to multiples of eight."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json, token_id

EXPECTED = Expected("chat_template", "fills every prompt up to a multiple of 8 tokens (pad_to_multiple_of)")


def make(folders: Folders) -> None:
    token = "<|endoftext|>"
    how = {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": 8}
    with edited_json(folders.base / "tokenizer.json") as document:
        document["padding"] = {**how, "pad_id": token_id(folders.base, token), "pad_type_id": 0, "pad_token": token}
