"""LoRA factors lie beside the weights that they were to be merged into."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("weights_complete", "lora_A")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        name = next(one for one in tensors if one.endswith("up_proj.weight"))
        tensors[name.replace(".weight", ".lora_A.weight")] = tensors[name][:8].clone()
