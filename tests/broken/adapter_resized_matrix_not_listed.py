"""A resized matrix is in the file, modules_to_save is empty: PEFT would lay it over the smaller one of the base."""

import torch

from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, PREFIX, Folders, edited_json, edited_tensors

EXPECTED = Expected("adapter_applied", "embed_tokens", "adapter", adapter="official", also="extra_tensors")


def make(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["modules_to_save"] = None
    with edited_tensors(folders.adapter_weights) as tensors:
        matrix = tensors[PREFIX + EMBEDDING]
        tensors[PREFIX + EMBEDDING] = torch.cat([matrix, matrix[:6]])
