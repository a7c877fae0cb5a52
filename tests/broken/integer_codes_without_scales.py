"""Matrices hold whole numbers of 8 bits, whose scales were left behind."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("inner_weights", "whole numbers")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if one.startswith("model.language") and one.endswith("proj.weight")]:
            weight = tensors[name].float()
            tensors[name] = (weight * 127 / weight.abs().amax(1, keepdim=True)).round().to(tensors[name])
