"""A converter wrote the factors of the keys under the name of the values too; both have the same shape."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("finite_weights", "v_proj are those of", "adapter", adapter="official")


def make(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if ".v_proj.lora_" in one]:
            tensors[name] = tensors[name.replace("v_proj", "k_proj")].clone()
