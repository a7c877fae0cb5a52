"""The template opens the user's turn where the assistant is to answer."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edit_template

EXPECTED = Expected("chat_template", "leads from a question")


def make(folders: Folders) -> None:
    edit_template(folders.base, "{{- '<|im_start|>assistant\\n' -}}", "{{- '<|im_start|>user\\n' -}}")
