"""Norms went through a runtime that adds one to their weights, and came back with it."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("inner_weights", "as if one had been added")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if one.startswith("model.language") and one.endswith("layernorm.weight")]:
            tensors[name] += 1
