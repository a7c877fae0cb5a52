"""An export dropped the merger between tower and language model."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_tensors

EXPECTED = Expected("weights_complete", "merger")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if one.startswith("model.merger.")]:
            del tensors[name]
