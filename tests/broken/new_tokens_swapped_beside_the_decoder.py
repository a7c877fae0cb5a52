"""Two new tokens changed places in tokenizer.json; added_tokens_decoder still has the ids of the training."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json, read_json, swap_last_tokens

EXPECTED = Expected("tokenizer_faithful", "added_tokens_decoder", "adapter", adapter="tokens")


def make(folders: Folders) -> None:
    added = {str(one.pop("id")): one for one in read_json(folders.adapter / "tokenizer.json")["added_tokens"]}
    with edited_json(folders.adapter / "tokenizer_config.json") as config:
        config["added_tokens_decoder"] = added
    swap_last_tokens(folders.adapter)
