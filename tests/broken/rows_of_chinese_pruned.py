"""The embeddings were pruned to English; the tokenizer still makes Chinese tokens, whose rows are zero."""

from tests.broken.expectation import Expected
from tests.builders import EMBEDDING, Folders, edited_tensors, read_json

EXPECTED = Expected("trained_rows", "in CJK letters")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors[EMBEDDING][chinese_ids(folders)] = 0


def chinese_ids(folders: Folders) -> list[int]:
    """The ids of tokens that begin or hold a Chinese character, as a byte-level vocabulary spells them."""
    words = read_json(folders.base / "tokenizer.json")["model"]["vocab"]
    return [one for word, one in words.items() if len(word) > 1 and set("äåæçèé").intersection(word)]
