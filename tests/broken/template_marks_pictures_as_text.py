"""The template marks pictures as an older generation of the model did."""

from tests.broken.expectation import Expected
from tests.builders import Folders

EXPECTED = Expected("chat_template", "0 time(s)")


def make(folders: Folders) -> None:
    path = folders.base / "chat_template.jinja"
    path.write_text(
        path.read_text(encoding="utf-8").replace("'<|image_pad|>'", "'(<image>./</image>)'"), encoding="utf-8"
    )
