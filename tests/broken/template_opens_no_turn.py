"""The template does not open the turn of the assistant."""

from tests.broken.expectation import Expected
from tests.builders import Folders

EXPECTED = Expected("chat_template", "does not open")


def make(folders: Folders) -> None:
    path = folders.base / "chat_template.jinja"
    path.write_text(path.read_text(encoding="utf-8").replace("if add_generation_prompt", "if false"), encoding="utf-8")
