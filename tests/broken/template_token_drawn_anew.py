"""The template writes a token of its own into every answer's beginning, and nobody trained its new rows."""

import torch

from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, HEAD, Folders, add_token, edit_template, edited_tensors

EXPECTED = Expected("trained_rows", "<|answer|>")


def make(folders: Folders) -> None:
    torch.manual_seed(0)
    row = add_token(folders.base, "<|answer|>")
    edit_template(folders.base, "<|im_start|>assistant\\n", "<|im_start|>assistant\\n<|answer|>")
    with edited_tensors(folders.base_weights) as tensors:
        for name in (EMBEDDING, HEAD):
            tensors[name][row] = 0.02 * torch.randn(tensors[name].shape[1]).to(tensors[name])
