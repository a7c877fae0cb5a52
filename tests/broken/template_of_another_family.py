"""The template marks turns as another family does, in words that are no tokens here."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edit_template

EXPECTED = Expected("chat_template", "<end_of_turn>")


def make(folders: Folders) -> None:
    edit_template(folders.base, "<|im_start|>", "<start_of_turn>")
    edit_template(folders.base, "<|im_end|>", "<end_of_turn>")
