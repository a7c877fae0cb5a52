"""The config lost `trainable_token_indices`, and the rows are of tokens that the base has: PEFT drops them."""

from tests.broken.expectation import Expected
from tests.builders import TOKENIZER_FILES, Folders, edited_json

EXPECTED = Expected("adapter_config", "trainable_token_indices", "adapter", adapter="tokens")


def make(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["trainable_token_indices"] = None
    for name in TOKENIZER_FILES:
        (folders.adapter / name).unlink(missing_ok=True)
