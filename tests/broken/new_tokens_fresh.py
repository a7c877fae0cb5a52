"""The rows of new tokens are those of an older loader's resize: random, and never trained."""

import torch

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("trained_rows", "<fig>", "adapter", "warning", adapter="tokens")


def make(folders: Folders) -> None:
    torch.manual_seed(0)
    with edited_tensors(folders.adapter_weights) as tensors:
        name = next(one for one in tensors if "embed_tokens" in one)
        tensors[name] = (0.02 * torch.randn(tensors[name].shape)).to(tensors[name])
