"""New tokens were merged with their input rows only; the head has zeros there."""

from safetensors.torch import load_file

from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, HEAD, Folders, copy_tokenizer, edited_tensors, read_json

EXPECTED = Expected("trained_rows", "<fig>", severity="warning", adapter="tokens")


def make(folders: Folders) -> None:
    copy_tokenizer(folders.adapter, folders.base)
    ids = read_json(folders.adapter / "adapter_config.json")["trainable_token_indices"]["embed_tokens"]
    rows = next(one for name, one in load_file(folders.adapter_weights).items() if "embed_tokens" in name)
    with edited_tensors(folders.base_weights) as tensors:
        tensors[EMBEDDING][ids] = rows
        tensors[HEAD][ids] = 0
