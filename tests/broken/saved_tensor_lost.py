"""One tensor of a fully trained module is gone."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("extra_tensors", "linear_2.weight", "adapter", adapter="official")


def make(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        del tensors[next(one for one in tensors if ".merger." in one and one.endswith("linear_2.weight"))]
