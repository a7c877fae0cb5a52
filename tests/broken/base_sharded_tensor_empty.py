"""A parameter that a sharded trainer saved without gathering it: shape [0]."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("files", "q_proj.weight")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        name = next(one for one in tensors if one.endswith("self_attn.q_proj.weight"))
        tensors[name] = tensors[name].new_zeros(0)
