"""The template went through JSON twice: a backslash and an n stand for every line break."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edit_template

EXPECTED = Expected("chat_template", "spells line breaks, quotes or brackets out")


def make(folders: Folders) -> None:
    edit_template(folders.base, "\\n", "\\\\n")
