"""The markers of turns are those of another family, which are no tokens here."""

from tests.broken.expectation import Expected
from tests.builders import Folders

EXPECTED = Expected("chat_template", "<｜im_start｜>")


def make(folders: Folders) -> None:
    path = folders.base / "chat_template.jinja"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("<|im_start|>", "<｜im_start｜>"), encoding="utf-8")
