"""The template cuts long texts."""

from tests.broken.expectation import Expected
from tests.builders import Folders

EXPECTED = Expected("chat_template", "length")


def make(folders: Folders) -> None:
    path = folders.base / "chat_template.jinja"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("{{- content -}}", "{{- content | truncate(300) -}}"), encoding="utf-8")
