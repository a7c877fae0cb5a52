"""`target_parameters` names a vector, which has no factors."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("adapter_config", "dimension", "adapter")


def make(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config |= {"target_parameters": ["input_layernorm.weight"], "lora_dropout": 0.0}
