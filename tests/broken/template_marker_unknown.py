"""The template opens turns with a marker that is no token."""

from tests.broken.expectation import Expected
from tests.builders import Folders

EXPECTED = Expected("chat_template", "<|im_begin|>")


def make(folders: Folders) -> None:
    path = folders.base / "chat_template.jinja"
    path.write_text(path.read_text(encoding="utf-8").replace("<|im_start|>", "<|im_begin|>"), encoding="utf-8")
