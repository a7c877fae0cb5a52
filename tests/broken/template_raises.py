"""A template that fails on a plain question."""

from tests.broken.expectation import Expected
from tests.builders import Folders

EXPECTED = Expected("chat_template", "nowhere")


def make(folders: Folders) -> None:
    (folders.base / "chat_template.jinja").write_text("{{ raise_exception('nowhere to go') }}")
