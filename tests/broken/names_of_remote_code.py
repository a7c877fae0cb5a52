"""Tensors named as the remote code of older generations names them."""

from tests.broken.expectation import Expected
from tests.builders import Folders, rename_tensors

EXPECTED = Expected("weights_complete", "language_model")


def make(folders: Folders) -> None:
    rename_tensors(
        folders.base_weights,
        lambda name: name.replace("model.language_model.", "llm.model.").replace("model.vision_tower.", "vpm."),
    )
