"""The head was pruned to English: it has one and the same row for all Chinese tokens, the mean."""

from tests.broken.expectation import Expected
from tests.broken.rows_of_chinese_pruned import chinese_ids
from tests.builders import HEAD, Folders, edited_tensors

EXPECTED = Expected("trained_rows", "are equal, among them")


def make(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors[HEAD][chinese_ids(folders)] = tensors[HEAD].float().mean(0).to(tensors[HEAD])
