"""The whole input matrix is zero: a shard was saved before it was gathered."""

from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, Folders, edited_tensors

EXPECTED = Expected("finite_weights", "embed_tokens")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors[EMBEDDING].zero_()
