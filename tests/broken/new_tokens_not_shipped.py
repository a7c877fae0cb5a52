"""The rows were trained, but not saved with the adapter."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json, edited_tensors

EXPECTED = Expected("trained_rows", "<fig>", "adapter", adapter="tokens")


def make(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if "trainable_tokens_delta" in one]:
            del tensors[name]
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["trainable_token_indices"] = None
