"""`target_parameters` names the stacked experts of a mixture; the base has plain layers."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("adapter_config", "does not name them", "adapter")


def make(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["target_modules"].remove("down_proj")
        config |= {"target_parameters": ["experts.down_proj"], "lora_dropout": 0.0}
