"""A merged model under the original tied config: loaders may drop the trained head."""

from tests.broken.expectation import Expected
from tests.builders import Folders, declare_tie

EXPECTED = Expected("tied_embeddings", "lm_head.weight")


def make(folders: Folders) -> None:
    declare_tie(folders, is_tied=True)
