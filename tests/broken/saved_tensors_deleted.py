"""The full tensors were deleted, the config still names them."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("extra_tensors", "embed_tokens", "adapter", adapter="official")


def make(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if "lora_" not in one]:
            del tensors[name]
