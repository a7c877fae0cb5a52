"""The adapter's template lost the line break behind every turn."""

from tests.broken.expectation import Expected
from tests.builders import Folders

EXPECTED = Expected("chat_template", "line breaks", "adapter", adapter="official")


def make(folders: Folders) -> None:
    path = folders.adapter / "chat_template.jinja"
    path.write_text(path.read_text(encoding="utf-8").replace("<|im_end|>\\n'", "<|im_end|>'"), encoding="utf-8")
