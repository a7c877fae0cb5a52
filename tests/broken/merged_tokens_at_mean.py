"""New tokens were merged with the rows that resizing made."""

import shutil

import torch

from service.demo import demo_root
from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, HEAD, TOKENIZER_FILES, Folders, edited_tensors

EXPECTED = Expected("trained_rows", "<fig>")


def make(folders: Folders) -> None:
    for name in TOKENIZER_FILES:
        shutil.copyfile(demo_root() / "adapters" / "broken" / name, folders.base / name)
    with edited_tensors(folders.base_weights) as tensors:
        for name in (EMBEDDING, HEAD):
            others = torch.cat([tensors[name][:761], tensors[name][767:]]).float()
            tensors[name][761:767] = others.mean(0).to(tensors[name])
