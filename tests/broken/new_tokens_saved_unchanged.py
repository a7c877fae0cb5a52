"""Rows were shipped, but they are still the base's: learning never reached them."""

from safetensors.torch import load_file

from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, HEAD, Folders, edited_tensors, read_json

EXPECTED = Expected("trained_rows", "<pos>", "adapter", adapter="tokens")


def make(folders: Folders) -> None:
    base = load_file(folders.base_weights)
    ids = read_json(folders.adapter / "adapter_config.json")["trainable_token_indices"]
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if "trainable_tokens_delta" in one]:
            head = "lm_head" in name
            tensors[name] = base[HEAD if head else EMBEDDING][ids["lm_head" if head else "embed_tokens"]]
