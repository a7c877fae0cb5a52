"""New tokens were merged with the rows that resizing made."""

import torch

from service.demo import demo_root
from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, HEAD, Folders, copy_tokenizer, edited_tensors

EXPECTED = Expected("trained_rows", "<fig>")


def make(folders: Folders) -> None:
    copy_tokenizer(demo_root() / "adapters" / "broken", folders.base)
    with edited_tensors(folders.base_weights) as tensors:
        for name in (EMBEDDING, HEAD):
            others = torch.cat([tensors[name][:761], tensors[name][767:]]).float()
            tensors[name][761:767] = others.mean(0).to(tensors[name])
