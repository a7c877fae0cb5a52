"""The template writes nothing where a picture stands."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edit_template

EXPECTED = Expected("chat_template", "0 time(s)")


def make(folders: Folders) -> None:
    edit_template(folders.base, "'<|image_pad|>'", "''")
