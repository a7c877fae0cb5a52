"""Factors on parameters beside a dropout, with which PEFT refuses to load them."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("adapter_config", "lora_dropout", "adapter")


def make(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["target_modules"].remove("down_proj")
        config |= {"target_parameters": ["down_proj.weight"], "lora_dropout": 0.05}
