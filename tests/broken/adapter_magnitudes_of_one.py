"""DoRA was set up on weights that were not loaded yet: every magnitude is one."""

import torch

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json, edited_tensors

EXPECTED = Expected("finite_weights", "magnitudes are one value throughout", "adapter")


def make(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["use_dora"] = True
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if one.endswith("lora_B.weight")]:
            key = name.replace("lora_B.weight", "lora_magnitude_vector")
            tensors[key] = torch.ones(tensors[name].shape[0])
