"""A conversion stored the decays of linear attention with their minus sign, and not the logarithms of their size."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("finite_weights", "hold -exp(A_log)")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if one.endswith("A_log")]:
            tensors[name] = -tensors[name].float().exp()
