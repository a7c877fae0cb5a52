"""Matrices were cast from 8-bit floats to 16 bits without their scales."""

import torch

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("inner_weights", "F8_E4M3")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if one.startswith("model.language") and one.endswith("proj.weight")]:
            scaled = tensors[name].float() * 448 / tensors[name].float().abs().max()
            tensors[name] = scaled.to(torch.float8_e4m3fn).to(tensors[name])
