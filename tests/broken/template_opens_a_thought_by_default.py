"""A template of larger models, which think unless told otherwise, over one that never learned to think."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edit_template

EXPECTED = Expected("chat_template", "<think>", stage="loaded")


def make(folders: Folders) -> None:
    edit_template(
        folders.base, "enable_thinking is defined and enable_thinking is true", "enable_thinking | default(true)"
    )
