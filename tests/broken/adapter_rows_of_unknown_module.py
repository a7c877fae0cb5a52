"""The trained rows belong to a module that the config calls otherwise."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("adapter_config", "wte", "adapter", adapter="tokens")


def make(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        indices = config["trainable_token_indices"]
        indices["wte"] = indices.pop("embed_tokens")
