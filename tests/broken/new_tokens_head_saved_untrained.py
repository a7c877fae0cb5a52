"""Both matrices were saved whole, but only the embeddings were trained."""

from safetensors.torch import load_file

from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, HEAD, PREFIX, Folders, edited_json, edited_tensors

EXPECTED = Expected("trained_rows", "though training was to", "adapter", adapter="tokens")


def make(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        ids = config["trainable_token_indices"]["embed_tokens"]
        config["trainable_token_indices"], config["modules_to_save"] = None, ["embed_tokens", "lm_head"]
    base = load_file(folders.base_weights)
    with edited_tensors(folders.adapter_weights) as tensors:
        deltas = {name: tensors.pop(name) for name in list(tensors) if "trainable_tokens_delta" in name}
        tensors[PREFIX + HEAD], tensors[PREFIX + EMBEDDING] = base[HEAD], base[EMBEDDING]
        tensors[PREFIX + EMBEDDING][ids] = next(one for name, one in deltas.items() if "embed_tokens" in name)
