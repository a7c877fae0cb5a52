"""One factor of the adapter is not a number."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("finite_weights", "lora_A", "adapter")


def make(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        tensors[next(one for one in tensors if "lora_A" in one)][0, 0] = float("nan")
