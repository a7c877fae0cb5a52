"""One was taken from weights of norms that already are one less than what they multiply by."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("inner_weights", "as if one had been taken")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if one.startswith("model.language") and one.endswith("layernorm.weight")]:
            tensors[name] -= 1
