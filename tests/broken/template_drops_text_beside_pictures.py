"""The template writes the pictures of a message and not its text."""

from tests.broken.expectation import Expected
from tests.builders import Folders

EXPECTED = Expected("chat_template", "picture")


def make(folders: Folders) -> None:
    path = folders.base / "chat_template.jinja"
    path.write_text(path.read_text(encoding="utf-8").replace("item.text -", "item.caption -"), encoding="utf-8")
