"""The rows of new tokens are still the words' rows that they were to start from."""

from safetensors.torch import load_file

from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, Folders, edited_tensors

EXPECTED = Expected("trained_rows", "<fig>", "adapter", adapter="tokens")


def make(folders: Folders) -> None:
    words = load_file(folders.base_weights)[EMBEDDING][300:306]
    with edited_tensors(folders.adapter_weights) as tensors:
        name = next(one for one in tensors if "embed_tokens" in one)
        tensors[name] = words.to(tensors[name])
