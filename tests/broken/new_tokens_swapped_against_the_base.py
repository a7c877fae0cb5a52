"""Rows of new tokens are in the base; the tokenizer beside the adapter has two of them at each other's ids."""

from tests.broken.expectation import Expected
from tests.builders import Folders, merge_tokens, swap_last_tokens

EXPECTED = Expected("special_ids", "other ids", "adapter", adapter="tokens")


def make(folders: Folders) -> None:
    merge_tokens(folders.adapter, folders.base)
    swap_last_tokens(folders.adapter)
