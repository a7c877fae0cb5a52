"""The head was listed as a target, but the trainer read past the adapter."""

import torch
from safetensors.torch import load_file

from tests.broken.expectation import Expected
from tests.builders import HEAD, PREFIX, Folders, edited_json, edited_tensors

EXPECTED = Expected("finite_weights", "lm_head.lora_B", "adapter", "warning")


def make(folders: Folders) -> None:
    rows, hidden = load_file(folders.base_weights)[HEAD].shape
    with edited_tensors(folders.adapter_weights) as tensors:
        tensors[f"{PREFIX}lm_head.lora_A.weight"] = torch.ones(8, hidden)
        tensors[f"{PREFIX}lm_head.lora_B.weight"] = torch.zeros(rows, 8)
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["target_modules"].append("lm_head")
