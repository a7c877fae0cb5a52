"""The rows of new tokens were saved as resizing made them."""

import torch
from safetensors.torch import load_file

from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, Folders, edited_tensors

EXPECTED = Expected("trained_rows", "<fig>", "adapter", adapter="tokens")


def make(folders: Folders) -> None:
    mean = load_file(folders.base_weights)[EMBEDDING].float().mean(0)
    with edited_tensors(folders.adapter_weights) as tensors:
        name = next(one for one in tensors if "embed_tokens" in one)
        tensors[name] = (mean + 1e-6 * torch.randn(tensors[name].shape)).to(tensors[name])
