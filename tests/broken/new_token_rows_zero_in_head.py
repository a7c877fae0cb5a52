"""The output rows of new tokens were lost to zeros when they were gathered."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("trained_rows", "though training was to", "adapter", adapter="tokens")


def make(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        name = next(one for one in tensors if "lm_head" in one)
        tensors[name].zero_()
