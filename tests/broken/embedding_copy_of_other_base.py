"""Factors on the embeddings come with a copy of them, and it is another base's."""

import torch
from safetensors.torch import load_file

from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, PREFIX, Folders, edited_json, edited_tensors, read_json

EXPECTED = Expected("extra_tensors", "embed_tokens", "adapter")


def make(folders: Folders) -> None:
    matrix = load_file(folders.base_weights)[EMBEDDING]
    module = PREFIX + EMBEDDING.removesuffix(".weight")
    rank = read_json(folders.adapter / "adapter_config.json")["r"]
    with edited_tensors(folders.adapter_weights) as tensors:
        tensors[f"{module}.base_layer.weight"] = matrix.flip(0)
        tensors[f"{module}.lora_embedding_A"] = torch.ones(rank, len(matrix)).to(matrix)
        tensors[f"{module}.lora_embedding_B"] = torch.ones(matrix.shape[1], rank).to(matrix)
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["target_modules"].append("embed_tokens")
