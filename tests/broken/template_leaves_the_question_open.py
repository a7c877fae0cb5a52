"""The template closes a turn only when another one follows."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edit_template

EXPECTED = Expected("chat_template", "leads from a question")


def make(folders: Folders) -> None:
    edit_template(folders.base, "~ '<|im_end|>\\n' -}}", "~ ('' if loop.last else '<|im_end|>\\n') -}}")
