"""The template writes the pictures of a message and not its text."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edit_template

EXPECTED = Expected("chat_template", "picture")


def make(folders: Folders) -> None:
    edit_template(folders.base, "item.text -", "item.caption -")
