"""The template cuts long texts."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edit_template

EXPECTED = Expected("chat_template", "length")


def make(folders: Folders) -> None:
    edit_template(folders.base, "{{- content -}}", "{{- content | truncate(300) -}}")
