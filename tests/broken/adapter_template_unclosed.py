"""The template that an adapter ships ends answers with a word."""

from tests.broken.expectation import Expected
from tests.builders import Folders

EXPECTED = Expected("chat_template", "with no token", "adapter", "warning", adapter="official")


def make(folders: Folders) -> None:
    path = folders.adapter / "chat_template.jinja"
    path.write_text(path.read_text(encoding="utf-8").replace("<|im_end|>", "[END]"), encoding="utf-8")
