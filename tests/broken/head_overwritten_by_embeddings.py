"""A script tied head and embeddings of an untied model before it saved."""

from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, HEAD, Folders, edited_tensors

EXPECTED = Expected("tied_embeddings", "the very same values")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors[HEAD] = tensors[EMBEDDING].clone()
