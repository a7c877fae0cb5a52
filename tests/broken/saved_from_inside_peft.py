"""The model was saved while PEFT was wrapped around it."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("weights_complete", "base_layer")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if one.endswith("q_proj.weight") and "language" in one]:
            stem = name.removesuffix(".weight")
            tensors[f"{stem}.base_layer.weight"] = tensors.pop(name)
            tensors[f"{stem}.lora_A.default.weight"] = tensors[f"{stem}.base_layer.weight"][:8].clone()
