"""The template writes the last message only."""

from tests.broken.expectation import Expected
from tests.builders import Folders

EXPECTED = Expected("chat_template", "turns: assistant")


def make(folders: Folders) -> None:
    path = folders.base / "chat_template.jinja"
    path.write_text(
        path.read_text(encoding="utf-8").replace("for message in messages -", "for message in messages[-1:] -"),
        encoding="utf-8",
    )
