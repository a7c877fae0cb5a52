"""A conversion dropped the scale of the head: all logits are nearly the same."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("flat_output", "no token has a probability over", stage="loaded")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors["lm_head.weight"].mul_(1e-3)
