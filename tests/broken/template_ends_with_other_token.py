"""A template of another model family: its end of turn is no stop token."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edit_template

EXPECTED = Expected("stop_set", "</image>")


def make(folders: Folders) -> None:
    edit_template(folders.base, "<|im_end|>", "</image>")
