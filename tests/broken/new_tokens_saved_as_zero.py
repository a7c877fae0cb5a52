"""The rows of new tokens were saved from a shard that never held them: zeros."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("trained_rows", "<fig>", "adapter", adapter="tokens")


def make(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if "trainable_tokens_delta" in one]:
            tensors[name].zero_()
