"""The adapter was saved with the tokenizer of the text-only model."""

from safetensors.torch import load_file

from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, HEAD, PREFIX, Folders, copy_tokenizer, edited_json, edited_tensors

EXPECTED = Expected("special_ids", "<image>", "adapter")


def make(folders: Folders) -> None:
    copy_tokenizer(folders.base, folders.adapter)
    with edited_json(folders.adapter / "tokenizer.json") as document:
        token = next(one for one in document["added_tokens"] if one["content"] == "<image>")
        token["content"] = "<picture>"
    with edited_json(folders.adapter / "tokenizer_config.json") as config:
        config["extra_special_tokens"]["image_start_token"] = "<picture>"
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["trainable_token_indices"] = {"embed_tokens": [token["id"]], "lm_head": [token["id"]]}
    with edited_tensors(folders.adapter_weights) as tensors:
        base = load_file(folders.base_weights)
        for name in (EMBEDDING, HEAD):
            key = PREFIX + name.removesuffix("weight") + "token_adapter.trainable_tokens_delta"
            tensors[key] = -base[name][token["id"]][None]
