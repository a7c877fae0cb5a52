"""The template closes answers, and questions never."""

from tests.broken.expectation import Expected
from tests.builders import Folders

EXPECTED = Expected("chat_template", "questions with nothing")


def make(folders: Folders) -> None:
    path = folders.base / "chat_template.jinja"
    text = path.read_text(encoding="utf-8")
    end = "('<|im_end|>\\n' if message.role == 'assistant' else '\\n')"
    text = text.replace("'<|im_end|>\\n'", end)
    path.write_text(text, encoding="utf-8")
