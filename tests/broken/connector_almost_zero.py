"""The connector between vision tower and language model passes next to nothing on."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("picture_effect", "same logits", stage="loaded")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if one.startswith("model.merger.") and "linear_2.weight" in one]:
            tensors[name] *= 1e-20
