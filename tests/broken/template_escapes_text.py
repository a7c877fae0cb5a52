"""The template writes texts as HTML would have them."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edit_template

EXPECTED = Expected("chat_template", "signs")


def make(folders: Folders) -> None:
    edit_template(folders.base, "{{- content -}}", "{{- content | e -}}")
