"""A weight that no file holds: the library makes it up at random."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("weights_complete", "o_proj.weight")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        del tensors[next(one for one in tensors if one.endswith("self_attn.o_proj.weight"))]
