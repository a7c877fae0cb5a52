"""The row of a token in every prompt was drawn at random again, as older loaders do after a resize."""

import torch

from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, Folders, edited_tensors, token_id

EXPECTED = Expected("trained_rows", "</think>", severity="warning")


def make(folders: Folders) -> None:
    torch.manual_seed(0)
    with edited_tensors(folders.base_weights) as tensors:
        fresh = 0.02 * torch.randn(tensors[EMBEDDING].shape[1])
        tensors[EMBEDDING][token_id(folders.base, "</think>")] = fresh.to(tensors[EMBEDDING])
