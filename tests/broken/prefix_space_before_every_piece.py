"""A space is put in front of every piece of a text, as other byte-level tokenizers do for the first one."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("tokenizer_sound", "to blame is the add_prefix_space of pre_tokenizer ByteLevel")


def make(folders: Folders) -> None:
    with edited_json(folders.base / "tokenizer.json") as document:
        document["pre_tokenizer"]["pretokenizers"][-1]["add_prefix_space"] = True
