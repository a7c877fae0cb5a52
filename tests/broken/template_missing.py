"""No file of the folder holds a chat template."""

from tests.broken.expectation import Expected
from tests.builders import Folders

EXPECTED = Expected("chat_template", "no chat template")


def make(folders: Folders) -> None:
    (folders.base / "chat_template.jinja").unlink()
