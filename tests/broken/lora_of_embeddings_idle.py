"""The embeddings were listed as targets, but the trainer read past the adapter."""

import torch
from safetensors.torch import load_file

from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, PREFIX, Folders, edited_json, edited_tensors

EXPECTED = Expected("finite_weights", "lora_embedding_A", "adapter", "warning")


def make(folders: Folders) -> None:
    module = PREFIX + EMBEDDING.removesuffix(".weight")
    with edited_tensors(folders.adapter_weights) as tensors:
        rows, hidden = load_file(folders.base_weights)[EMBEDDING].shape
        tensors[f"{module}.lora_embedding_A"] = torch.zeros(8, rows)
        tensors[f"{module}.lora_embedding_B"] = torch.ones(hidden, 8)
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["target_modules"].append("embed_tokens")
