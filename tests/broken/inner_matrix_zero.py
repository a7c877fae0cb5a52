"""One projection of one layer was never filled: it is zero, and those of the other layers are not."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("finite_weights", "layers.1.self_attn.q_proj")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors[next(one for one in tensors if "vision_tower.encoder.layers.1.self_attn.q_proj.weight" in one)] *= 0
