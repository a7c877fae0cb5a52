"""The head was dropped as a duplicate when saving, but the config says that there is one."""

from tests.broken.expectation import Expected
from tests.builders import HEAD, Folders, edited_tensors

EXPECTED = Expected("tied_embeddings", "lm_head.weight is missing")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        del tensors[HEAD]
