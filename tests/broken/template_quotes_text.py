"""The template writes texts as JSON strings."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edit_template

EXPECTED = Expected("chat_template", "quotes")


def make(folders: Folders) -> None:
    edit_template(folders.base, "{{- content -}}", "{{- content | tojson -}}")
