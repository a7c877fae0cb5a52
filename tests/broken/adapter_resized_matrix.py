"""A full embedding of a resized base beside a base that is not resized."""

import torch

from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, PREFIX, Folders, edited_tensors

EXPECTED = Expected("adapter_applied", "embed_tokens", "adapter", adapter="official")


def make(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        matrix = tensors[PREFIX + EMBEDDING]
        tensors[PREFIX + EMBEDDING] = torch.cat([matrix, matrix[:6]])
