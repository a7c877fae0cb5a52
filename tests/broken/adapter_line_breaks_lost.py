"""The adapter's template lost the line break behind every turn."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edit_template

EXPECTED = Expected("chat_template", "line breaks", "adapter", adapter="official")


def make(folders: Folders) -> None:
    edit_template(folders.adapter, "<|im_end|>\\n'", "<|im_end|>'")
