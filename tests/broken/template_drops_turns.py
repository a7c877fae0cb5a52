"""The template writes the last message only."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edit_template

EXPECTED = Expected("chat_template", "turns: assistant")


def make(folders: Folders) -> None:
    edit_template(folders.base, "for message in messages -", "for message in messages[-1:] -")
