"""Rows of new tokens are in the base; the tokenizer beside the adapter has two of them at each other's ids."""

import shutil

from safetensors.torch import load_file

from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, HEAD, TOKENIZER_FILES, Folders, edited_json, edited_tensors, read_json

EXPECTED = Expected("special_ids", "other ids", "adapter", adapter="tokens")


def make(folders: Folders) -> None:
    rows = load_file(folders.adapter_weights)
    ids = read_json(folders.adapter / "adapter_config.json")["trainable_token_indices"]
    with edited_tensors(folders.base_weights) as tensors:
        for name, module in ((EMBEDDING, "embed_tokens"), (HEAD, "lm_head")):
            new = next(one for key, one in rows.items() if f"{module}.token_adapter" in key)
            tensors[name][ids[module]] = new.to(tensors[name])
    for name in TOKENIZER_FILES:
        shutil.copyfile(folders.adapter / name, folders.base / name)
    with edited_json(folders.adapter / "tokenizer.json") as document:
        added = document["added_tokens"]
        added[-1]["content"], added[-2]["content"] = added[-2]["content"], added[-1]["content"]
