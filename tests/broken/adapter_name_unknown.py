"""The adapter's tokenizer calls another token the picture's placeholder, one that it does not have."""

from tests.broken.expectation import Expected
from tests.builders import Folders, copy_tokenizer, edited_json

EXPECTED = Expected("special_ids", "<slice>", "adapter")


def make(folders: Folders) -> None:
    copy_tokenizer(folders.base, folders.adapter)
    with edited_json(folders.adapter / "tokenizer_config.json") as config:
        config["extra_special_tokens"]["slice_start_token"] = "<image>"
