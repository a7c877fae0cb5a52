"""What brings a layer's attention back was still offloaded when the model was saved: zeros took its place."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("finite_weights", "layers.3.self_attn.o_proj")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors[next(one for one in tensors if one.endswith("layers.3.self_attn.o_proj.weight"))] *= 0
