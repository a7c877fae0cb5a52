"""A full matrix was saved, but weight decay alone touched the new token's row."""

from safetensors.torch import load_file

from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, PREFIX, Folders, add_token, edited_tensors

EXPECTED = Expected("trained_rows", "<stamp>", "adapter", adapter="official")


def make(folders: Folders) -> None:
    new = add_token(folders.adapter, "<stamp>")
    base = load_file(folders.base_weights)
    with edited_tensors(folders.adapter_weights) as tensors:
        tensors[PREFIX + EMBEDDING][new] = base[EMBEDDING][new] * 0.98
