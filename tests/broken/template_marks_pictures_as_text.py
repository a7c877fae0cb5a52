"""The template marks pictures as an older generation of the model did."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edit_template

EXPECTED = Expected("chat_template", "0 time(s)")


def make(folders: Folders) -> None:
    edit_template(folders.base, "'<|image_pad|>'", "'(<image>./</image>)'")
