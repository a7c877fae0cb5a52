"""The template lacks the empty thought behind which the model was trained to answer."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edit_template

EXPECTED = Expected("chat_template", "<think></think>", stage="loaded")


def make(folders: Folders) -> None:
    edit_template(folders.base, "{{- '<think>\\n\\n</think>\\n\\n' -}}", "")
