"""One of two trained modules is no longer listed."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("extra_tensors", "merger", "adapter", adapter="official")


def make(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["modules_to_save"] = ["embed_tokens"]
