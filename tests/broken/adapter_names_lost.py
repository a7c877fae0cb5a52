"""The trainer emptied the special tokens of the adapter's tokenizer_config.json."""

from tests.broken.expectation import Expected
from tests.builders import Folders, copy_tokenizer, edited_json

EXPECTED = Expected("special_ids", "image_token", "adapter")


def make(folders: Folders) -> None:
    copy_tokenizer(folders)
    with edited_json(folders.adapter / "tokenizer_config.json") as config:
        config["extra_special_tokens"] = ["<|im_end|>"]
