"""modules_to_save was emptied so that another server takes the adapter: PEFT overwrites the base."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("extra_tensors", "embed_tokens", "adapter", adapter="official")


def make(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["modules_to_save"] = None
