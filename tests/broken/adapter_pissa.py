"""The adapter takes the base apart at every load."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("adapter_config", "pissa", "adapter", "warning")


def make(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["init_lora_weights"] = "pissa"
