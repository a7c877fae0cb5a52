"""The input embeddings were not saved, as if they were tied to the head."""

from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, Folders, edited_tensors

EXPECTED = Expected("weights_complete", "embed_tokens")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        del tensors[EMBEDDING]
