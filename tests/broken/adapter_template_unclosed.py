"""The template that an adapter ships ends answers with a word."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edit_template

EXPECTED = Expected("chat_template", "with no token", "adapter", "warning", adapter="official")


def make(folders: Folders) -> None:
    edit_template(folders.adapter, "<|im_end|>", "[END]")
