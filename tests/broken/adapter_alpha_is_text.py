"""lora_alpha is a word."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("adapter_config", "lora_alpha", "adapter")


def make(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["lora_alpha"] = "sixteen"
