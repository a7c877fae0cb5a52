"""An adapter for a few tokens brings rows that the base has elsewhere."""

import torch
from safetensors.torch import load_file

from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, HEAD, Folders, edited_json, edited_tensors, token_id

EXPECTED = Expected("row_health", "<think>", "adapter", adapter="tokens")


def make(folders: Folders) -> None:
    old, base = token_id(folders.base, "<think>"), load_file(folders.base_weights)
    with edited_json(folders.adapter / "adapter_config.json") as config:
        for ids in config["trainable_token_indices"].values():
            ids.append(old)
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if "trainable_tokens_delta" in one]:
            matrix = base[HEAD if "lm_head" in name else EMBEDDING]
            other = token_id(folders.base, "<image>") if "embed_tokens" in name else old
            tensors[name] = torch.cat([tensors[name], matrix[[other]].to(tensors[name])])
