"""A splitting that throws white space away stands in front of the one of training."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("tokenizer_sound", "to blame is pre_tokenizer WhitespaceSplit")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "tokenizer.json") as document:
        document["pre_tokenizer"]["pretokenizers"].insert(0, {"type": "WhitespaceSplit"})
