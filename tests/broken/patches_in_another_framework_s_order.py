"""The tower's kernel has height and width first, as another framework writes it."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("inner_weights", "patch_embedding")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        name = next(one for one in tensors if one.endswith("patch_embedding.weight"))
        tensors[name] = tensors[name].permute(2, 3, 1, 0).reshape(tensors[name].shape)
