"""The markers of turns are those of another family, which are no tokens here."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edit_template

EXPECTED = Expected("chat_template", "<｜im_start｜>")


def make(folders: Folders) -> None:
    edit_template(folders.base, "<|im_start|>", "<｜im_start｜>")
