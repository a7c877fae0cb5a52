"""A merge script tied the head of a model that has one of its own, and saved both."""

from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, HEAD, Folders, edited_tensors

EXPECTED = Expected("tied_embeddings", "lm_head.weight is model.language_model.embed_tokens.weight once more")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors[HEAD] = tensors[EMBEDDING].clone()
