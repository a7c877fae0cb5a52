"""The template marks where a picture begins and ends, which the processor does too."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edit_template

EXPECTED = Expected("chat_template", "<image> (1 time(s)) and </image> (1 time(s)) for a picture")


def make(folders: Folders) -> None:
    edit_template(folders.base, "'<|image_pad|>'", "'<image><|image_pad|></image>'")
