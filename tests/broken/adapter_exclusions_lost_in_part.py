"""The tower was trained in one layer, and the config asks for all of them."""

import torch

from tests.broken.expectation import Expected
from tests.builders import PREFIX, Folders, edited_json, edited_tensors

EXPECTED = Expected("adapter_config", "vision_tower", "adapter")
MODULE = "model.vision_tower.encoder.layers.0.self_attn.q_proj"


def make(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["exclude_modules"] = None
    generator = torch.Generator().manual_seed(1)
    with edited_tensors(folders.adapter_weights) as tensors:
        for side, shape in (("A", (8, 128)), ("B", (128, 8))):
            tensors[f"{PREFIX}{MODULE}.lora_{side}.weight"] = 0.02 * torch.randn(shape, generator=generator)
