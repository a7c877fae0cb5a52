"""Tokens were added, the matrices were not resized: ids beyond the last row."""

from tests.broken.expectation import Expected
from tests.builders import Folders, add_token, cut_rows, token_id

EXPECTED = Expected("rows_cover_ids", "<extra_0>")


def make(folders: Folders) -> None:
    cut_rows(folders, token_id(folders.base, "</think>") + 1)
    for number in range(3):
        add_token(folders.base, f"<extra_{number}>")
