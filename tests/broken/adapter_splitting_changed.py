"""The rule that cuts text into words was replaced by the library's default."""

from tests.broken.expectation import Expected
from tests.builders import Folders, copy_tokenizer, edited_json

EXPECTED = Expected("tokenizer_sound", "cannot be reached", "adapter")


def make(folders: Folders) -> None:
    copy_tokenizer(folders.base, folders.adapter)
    with edited_json(folders.adapter / "tokenizer.json") as document:
        document["pre_tokenizer"] = {
            "type": "ByteLevel",
            "add_prefix_space": True,
            "trim_offsets": True,
            "use_regex": True,
        }
