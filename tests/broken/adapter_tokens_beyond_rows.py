"""An adapter was trained on a resized base and is served on the original: its tokens have no rows."""

from tests.broken.expectation import Expected
from tests.builders import Folders, add_token, copy_tokenizer, cut_rows, token_id

EXPECTED = Expected("rows_cover_ids", "<fig>", "adapter")


def make(folders: Folders) -> None:
    cut_rows(folders, token_id(folders.base, "</think>") + 1)
    copy_tokenizer(folders.base, folders.adapter)
    for token in ("<fig>", "</fig>"):
        add_token(folders.adapter, token)
