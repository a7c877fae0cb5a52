"""The factors on a parameter have another rank than the config says."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("adapter_config", "have rank", "adapter")


def make(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["target_modules"].remove("down_proj")
        config |= {"target_parameters": ["down_proj.weight"], "lora_dropout": 0.0}
        config["rank_pattern"] = {"down_proj.weight": 3}
