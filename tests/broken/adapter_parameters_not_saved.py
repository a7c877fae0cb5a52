"""`target_parameters` asks for factors that the file does not hold."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json, edited_tensors

EXPECTED = Expected("adapter_config", "no factors for", "adapter")


def make(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["target_modules"].remove("down_proj")
        config |= {"target_parameters": ["down_proj.weight"], "lora_dropout": 0.0}
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if "layers.2.mlp.down_proj" in one]:
            del tensors[name]
