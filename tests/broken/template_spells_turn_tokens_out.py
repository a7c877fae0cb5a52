"""The template was copied from a web page: brackets of the tokens are spelled as HTML does."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edit_template

EXPECTED = Expected("chat_template", "&lt;|im_end|&gt;")


def make(folders: Folders) -> None:
    edit_template(folders.base, "<|im_end|>", "&lt;|im_end|&gt;")
