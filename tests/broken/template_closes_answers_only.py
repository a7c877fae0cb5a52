"""The template closes answers, and questions never."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edit_template

EXPECTED = Expected("chat_template", "questions with nothing")


def make(folders: Folders) -> None:
    end = "('<|im_end|>\\n' if message.role == 'assistant' else '\\n')"
    edit_template(folders.base, "'<|im_end|>\\n'", end)
