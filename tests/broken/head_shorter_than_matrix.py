"""Only the input matrix was resized: the new ids cannot be written."""

from tests.broken.expectation import Expected
from tests.builders import HEAD, Folders, edited_json, edited_tensors, token_id

EXPECTED = Expected("rows_cover_ids", "output")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        rows = token_id(folders.base, "</think>") + 1
        tensors[HEAD] = tensors[HEAD][: rows - 1]
    with edited_json(folders.base / "config.json") as config:
        del config["text_config"]["vocab_size"]
