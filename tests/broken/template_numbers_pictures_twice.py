"""The template numbers pictures with the processor's own tokens."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edit_template

EXPECTED = Expected("chat_template", "<image_id> (1 time(s))")


def make(folders: Folders) -> None:
    edit_template(folders.base, "'<|image_pad|>'", "'<image_id>0</image_id><|image_pad|>'")
