"""The adapter's template marks where a picture begins and ends, which the processor does too."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edit_template

EXPECTED = Expected("chat_template", "<image> (1 time(s))", "adapter", adapter="official")


def make(folders: Folders) -> None:
    edit_template(folders.adapter, "'<|image_pad|>'", "'<image>\\n<|image_pad|>\\n</image>'")
