"""The template does not open the turn of the assistant."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edit_template

EXPECTED = Expected("chat_template", "does not open")


def make(folders: Folders) -> None:
    edit_template(folders.base, "if add_generation_prompt", "if false")
