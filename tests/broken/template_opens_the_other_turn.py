"""The template opens the user's turn where the assistant is to answer."""

from tests.broken.expectation import Expected
from tests.builders import Folders

EXPECTED = Expected("chat_template", "leads from a question")


def make(folders: Folders) -> None:
    path = folders.base / "chat_template.jinja"
    text = path.read_text(encoding="utf-8")
    text = text.replace("{{- '<|im_start|>assistant\\n' -}}", "{{- '<|im_start|>user\\n' -}}")
    path.write_text(text, encoding="utf-8")
