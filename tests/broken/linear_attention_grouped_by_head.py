"""A conversion left the rows of linear attention's projection grouped by key head, as Qwen3-Next stores them."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("inner_weights", "in_proj_qkv")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if one.endswith("in_proj_qkv.weight")]:
            rows = tensors[name]
            tensors[name] = rows.view(3, 2, 64, -1).transpose(0, 1).reshape(rows.shape)
