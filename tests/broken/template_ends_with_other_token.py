"""A template of another model family: its end of turn is no stop token."""

from tests.broken.expectation import Expected
from tests.builders import Folders

EXPECTED = Expected("stop_set", "</image>")


def make(folders: Folders) -> None:
    path = folders.base / "chat_template.jinja"
    path.write_text(path.read_text().replace("<|im_end|>", "</image>"))
