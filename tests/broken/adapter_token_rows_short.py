"""Fewer token rows than the config names tokens."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("adapter_applied", "trainable_tokens_delta", "adapter", adapter="tokens")


def make(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        for ids in config["trainable_token_indices"].values():
            ids.append(0)
