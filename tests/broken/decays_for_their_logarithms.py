"""The decays of linear attention came back from a file that keeps them without the logarithm."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("inner_weights", "A_log")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if one.endswith(".A_log")]:
            tensors[name] = -tensors[name].exp()
