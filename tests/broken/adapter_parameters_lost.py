"""The config lost `target_parameters`, as servers lose it that keep the fields they know: the factors are dropped."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("adapter_config", "not among target_modules", "adapter")


def make(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["target_modules"].remove("down_proj")
        config |= {"target_parameters": None, "lora_dropout": 0.0}
