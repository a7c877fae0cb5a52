"""A model with a head of its own was exported as a tied one: the embeddings are to write tokens."""

from tests.broken.expectation import Expected
from tests.builders import HEAD, Folders, declare_tie, edited_tensors

EXPECTED = Expected("tied_embeddings", "was not trained to write tokens")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        del tensors[HEAD]
    declare_tie(folders, is_tied=True)
