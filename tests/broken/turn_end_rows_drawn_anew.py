"""Both rows of the token that ends answers were drawn at random again."""

import torch

from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, HEAD, Folders, edited_tensors, token_id

EXPECTED = Expected("trained_rows", "<|im_end|>")


def make(folders: Folders) -> None:
    torch.manual_seed(0)
    row = token_id(folders.base, "<|im_end|>")
    with edited_tensors(folders.base_weights) as tensors:
        for name in (EMBEDDING, HEAD):
            tensors[name][row] = 0.02 * torch.randn(tensors[name].shape[1]).to(tensors[name])
