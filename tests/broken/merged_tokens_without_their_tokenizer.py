"""Trained tokens were merged with their rows and saved with the base's tokenizer, which has none of them."""

from tests.broken.expectation import Expected
from tests.builders import TOKENIZER_FILES, Folders, merge_tokens

EXPECTED = Expected("trained_rows", "ids 761 to 766", adapter="tokens")


def make(folders: Folders) -> None:
    kept = {name: (folders.base / name).read_bytes() for name in TOKENIZER_FILES}
    merge_tokens(folders.adapter, folders.base)
    for name, content in kept.items():
        (folders.base / name).write_bytes(content)
