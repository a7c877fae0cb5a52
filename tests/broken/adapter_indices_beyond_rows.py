"""Token rows were trained on a base with more rows than the served one."""

import torch

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json, edited_tensors, read_json

EXPECTED = Expected("rows_cover_ids", "trainable_token_indices", "adapter", adapter="tokens")


def make(folders: Folders) -> None:
    rows = read_json(folders.base / "config.json")["text_config"]["vocab_size"]
    with edited_json(folders.adapter / "adapter_config.json") as config:
        for ids in config["trainable_token_indices"].values():
            ids.append(rows)
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if "trainable_tokens_delta" in one]:
            tensors[name] = torch.cat([tensors[name], tensors[name][:1]])
