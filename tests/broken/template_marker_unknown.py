"""The template opens turns with a marker that is no token."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edit_template

EXPECTED = Expected("chat_template", "<|im_begin|>")


def make(folders: Folders) -> None:
    edit_template(folders.base, "<|im_start|>", "<|im_begin|>")
