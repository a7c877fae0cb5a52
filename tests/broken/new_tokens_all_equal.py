"""All new tokens have one and the same row: the model cannot tell them apart."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("trained_rows", "<fig>", "adapter", adapter="tokens")


def make(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        name = next(one for one in tensors if "embed_tokens" in one)
        tensors[name] = tensors[name][:1].repeat(len(tensors[name]), 1)
