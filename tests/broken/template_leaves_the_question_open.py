"""The template closes a turn only when another one follows."""

from tests.broken.expectation import Expected
from tests.builders import Folders

EXPECTED = Expected("chat_template", "leads from a question")


def make(folders: Folders) -> None:
    path = folders.base / "chat_template.jinja"
    text = path.read_text(encoding="utf-8")
    text = text.replace("~ '<|im_end|>\\n' -}}", "~ ('' if loop.last else '<|im_end|>\\n') -}}")
    path.write_text(text, encoding="utf-8")
