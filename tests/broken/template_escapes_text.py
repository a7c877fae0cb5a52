"""The template writes texts as HTML would have them."""

from tests.broken.expectation import Expected
from tests.builders import Folders

EXPECTED = Expected("chat_template", "signs")


def make(folders: Folders) -> None:
    path = folders.base / "chat_template.jinja"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("{{- content -}}", "{{- content | e -}}"), encoding="utf-8")
