"""Input rows of the new tokens were trained, output rows were not."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json, edited_tensors

EXPECTED = Expected("trained_rows", "<fig>", "adapter", "warning", adapter="tokens")


def make(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if "lm_head" in one]:
            del tensors[name]
    with edited_json(folders.adapter / "adapter_config.json") as config:
        del config["trainable_token_indices"]["lm_head"]
