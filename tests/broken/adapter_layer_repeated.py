"""One layer's factors were written under the name of another one too."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("finite_weights", "layers.1", "adapter")


def make(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if ".layers.1." in one]:
            tensors[name] = tensors[name.replace(".layers.1.", ".layers.0.")].clone()
